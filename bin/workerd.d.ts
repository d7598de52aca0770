/** The npm package `workerd` exports the path of its binary and ships no types. */
declare module "workerd" {
  const path: string
  export default path
}
