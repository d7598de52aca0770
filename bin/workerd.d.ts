/** The npm package `workerd` is CommonJS, exports the path of its binary as `default`, and ships no types. */
declare module "workerd" {
  const workerd: { readonly default: string }
  export default workerd
}
