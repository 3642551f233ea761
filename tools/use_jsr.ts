/**
 * Takes the stand-ins of JSR's packages out of deno.json, where JSR can be reached: CI tests with the real ones, and
 * publishes without the stand-ins.
 *
 * @module
 */
const { links: _, ...project } = JSON.parse(await Deno.readTextFile("deno.json"));
await Deno.writeTextFile("deno.json", `${JSON.stringify(project, undefined, 2)}\n`);
