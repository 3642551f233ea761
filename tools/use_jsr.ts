/**
 * Removes the stand-ins for JSR packages from deno.json, if JSR is available. CI tests with the real packages, and
 * publishes without the stand-ins. The real packages are not in deno.lock, so the `lock` setting with `frozen` is also
 * removed.
 *
 * @module
 */
const { links: _links, lock: _lock, ...project } = JSON.parse(await Deno.readTextFile("deno.json"));
await Deno.writeTextFile("deno.json", `${JSON.stringify(project, undefined, 2)}\n`);
