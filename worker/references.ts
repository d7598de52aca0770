/** How a path names a container: by its id, or by the name of a live one. */
import { z } from "zod"
import { ContainerName } from "../schema/container.ts"
import { ContainerId } from "../schema/ids.ts"
import { CONTAINER_ID } from "./examples.ts"

export const ContainerPath = z.object({
  id: z.union([ContainerId, ContainerName]).meta({
    description: "A container's id, or the name of a live one.",
    examples: [CONTAINER_ID],
  }),
})
