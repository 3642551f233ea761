// The examples run as they are, under the permissions they say.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { LIBRARY_PATHS } from "@winsock/handoff";
import { FFI_GRANT, RUN } from "../kit/process.ts";

async function runExample(script: string, ...grants: string[]): Promise<{ code: number; output: string }> {
  const path = new URL(`../../examples/${script}`, import.meta.url).href;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, path],
    stdout: "piped",
    stderr: "piped",
  }).output();
  return { code, output: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

Deno.test("the demo hands three connections over, and prints the ten steps with both process ids", async () => {
  const { code, output } = await runExample("handoff_http.ts", "--allow-run", FFI_GRANT);
  assertEquals(code, 0, output);
  const source = /Process (\d+) listens/.exec(output)?.[1];
  const target = /asks process (\d+) for its process id/.exec(output)?.[1];
  assert(source !== target);
  for (let step = 1; step <= 10; step++) {
    const who = [3, 7, 8, 9].includes(step) ? `target ${target}` : `source ${source}`;
    assertMatch(output, new RegExp(`^ *${step}\\. ${who} `, "m"));
  }
  for (const request of [1, 2, 3]) {
    assertStringIncludes(output, `GET /client-${request}: 200 Hello client-${request} from process ${target}`);
  }
});

Deno.test("the demo needs what it says: without ffi access it names the library", async () => {
  const { code, output } = await runExample("handoff_http.ts", "--allow-run");
  assert(code !== 0);
  assertStringIncludes(output, LIBRARY_PATHS[0]!);
});
