/**
 * Compares the published tag, which is in `GITHUB_REF_NAME` in a workflow, with the version in deno.json.
 *
 * @module
 */
import project from "../deno.json" with { type: "json" };

const tag = Deno.args[0] ?? Deno.env.get("GITHUB_REF_NAME");
if (tag !== `v${project.version}`) {
  console.error(`The tag is ${tag}, the version in deno.json ${project.version}`);
  Deno.exit(1);
}
