/** Migrations are bundled as text, by the rule for `*.sql` in wrangler.toml and by esbuild in the embedded platform. */
declare module "*.sql" {
  const text: string
  export default text
}
