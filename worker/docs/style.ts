/** How the documentation looks, in light and in dark. It is inlined and named by its hash in the page's content policy. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --surface: #ffffff; --text: #1d2329; --quiet: #5b6672; --line: #e3e0da; --accent: #0b6e6e;
  --code: #f3f1ed; --get: #0b6e6e; --post: #9a4d00; --delete: #b3261e;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12161a; --surface: #191f25; --text: #e4e7ea; --quiet: #97a3af; --line: #2b333c; --accent: #5cc8c2;
    --code: #0e1215; --get: #5cc8c2; --post: #f0a85c; --delete: #ff8a80;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1.5rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.6 system-ui, -apple-system, "Segoe UI", sans-serif; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 3px; }
a:focus-visible, summary:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.page { display: grid; grid-template-columns: 17rem minmax(0, 1fr); max-width: 84rem; margin: 0 auto; }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 2rem 1.25rem; border-right: 1px solid var(--line); font-size: .875rem; }
nav .brand { font-size: 1.25rem; font-weight: 650; letter-spacing: -.01em; text-decoration: none; color: var(--text); }
nav h2 { margin: 1.5rem 0 .35rem; font-size: .72rem; letter-spacing: .08em; text-transform: uppercase; color: var(--quiet); }
nav h2 a { color: inherit; text-decoration: none; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { display: block; padding: .16rem 0; color: inherit; text-decoration: none; }
nav li a:hover { color: var(--accent); }
main { padding: 2.5rem clamp(1rem, 4vw, 3.5rem) 6rem; }
h1 { margin: 0 0 .5rem; font-size: 2.25rem; letter-spacing: -.025em; line-height: 1.15; }
.lead { max-width: 46rem; color: var(--quiet); font-size: 1.075rem; }
section.tag { margin-top: 3.5rem; }
section.tag > h2 { margin: 0; font-size: 1.5rem; letter-spacing: -.015em; }
.quiet { color: var(--quiet); }
article { margin-top: 1.5rem; padding: 1.5rem; background: var(--surface); border: 1px solid var(--line); border-radius: 12px; }
article h3 { display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; margin: 0; font-size: 1.15rem; }
article h4 { margin: 1.5rem 0 .5rem; font-size: .8rem; letter-spacing: .05em; text-transform: uppercase; color: var(--quiet); }
article p { max-width: 46rem; margin: .6rem 0; }
.address { margin: .35rem 0 0; font-family: var(--mono); font-size: .9rem; overflow-wrap: anywhere; }
.method { font-weight: 700; text-transform: uppercase; }
.get { color: var(--get); } .post { color: var(--post); } .delete { color: var(--delete); }
.chip { padding: .05rem .55rem; border: 1px solid var(--line); border-radius: 99px; font: 500 .78rem/1.6 var(--mono); color: var(--quiet); }
code { font-family: var(--mono); font-size: .875em; background: var(--code); padding: .1em .32em; border-radius: 4px; overflow-wrap: anywhere; }
pre { margin: .5rem 0; padding: .9rem 1rem; overflow-x: auto; background: var(--code); border: 1px solid var(--line); border-radius: 8px; font: .82rem/1.55 var(--mono); }
pre code { padding: 0; background: none; font-size: inherit; overflow-wrap: normal; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: .8rem; }
th, td { padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { white-space: nowrap; }
td .type { display: inline-block; max-width: 13rem; font: .8rem/1.5 var(--mono); color: var(--quiet); overflow-wrap: break-word; }
.need { color: var(--delete); font-size: .78rem; }
details { margin-top: .9rem; }
summary { cursor: pointer; color: var(--accent); font-size: .92rem; }
.codes { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: .4rem 0 0; list-style: none; }
:target { scroll-margin-top: 1rem; }
article:target, tr:target > td { box-shadow: inset 3px 0 0 var(--accent); }
@media (max-width: 60rem) {
  .page { display: block; }
  nav { position: static; height: auto; border: 0; border-bottom: 1px solid var(--line); padding-block: 1.25rem; }
  nav ul { columns: 2; }
  article { padding: 1.1rem; }
}
`
