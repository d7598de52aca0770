/** The entry of the Worker: the API, and the classes of its objects. */
import { newApp } from "./app.ts"

export { CellObject } from "../durable/cell/object.ts"
export { NodeObject } from "../durable/node/object.ts"
export { TenantObject } from "../durable/tenant/object.ts"

export default newApp()
