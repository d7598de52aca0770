/** Column kinds that drizzle lacks. */
import { customType } from "drizzle-orm/sqlite-core"

/** A value as JSON text. Unlike drizzle's own `text({ mode: "json" })` it keeps null as SQL NULL in prepared statements too. */
export const json = <T>(name?: string) =>
  customType<{ data: T; driverData: string | null }>({
    dataType: () => "text",
    toDriver: (value) => (value === null ? null : JSON.stringify(value)),
    fromDriver: (text) => JSON.parse(text ?? "null") as T,
  })(name ?? "")
