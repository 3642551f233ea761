/**
 * Takes the stand-ins of JSR's packages out of deno.json, where JSR can be reached: CI tests with the real ones, and
 * publishes without the stand-ins. The real ones are not in deno.lock, so it must not be frozen then.
 *
 * @module
 */
const { links: _links, lock: _lock, ...project } = JSON.parse(await Deno.readTextFile("deno.json"));
await Deno.writeTextFile("deno.json", `${JSON.stringify(project, undefined, 2)}\n`);
