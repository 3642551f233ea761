// Programs that are their own workers: made by `deno compile`, and run by Deno.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { type CompiledProgram, compileProgram } from "../kit/compiled.ts";
import { FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { layOutSnippets } from "../kit/snippets.ts";
import { finish, get, ServeProcess } from "./serve_process.ts";

const ON_WINDOWS = Deno.build.os === "windows";
const PROGRAM = new URL("own_program.ts", import.meta.url);
const CACHE = fileURLToPath(new URL("../../.cache", import.meta.url));
const GRANTS = ["--allow-run", "--allow-env=WINSOCK_HANDOFF_WORKER,WINSOCK_HANDOFF_PREDECESSOR", FFI_GRANT];

await Deno.mkdir(CACHE, { recursive: true });
const folder = await Deno.makeTempDir({ dir: CACHE });
globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
const grants = [...GRANTS, `--allow-read=${folder}`, `--allow-write=${folder}`];
const PROGRAMS: Readonly<Record<string, CompiledProgram>> = {
  compiled: await compileProgram(PROGRAM, grants, folder),
  "run by Deno": { command: Deno.execPath(), args: [...RUN, ...grants, PROGRAM.href] },
};

function started({ command, args }: CompiledProgram, own: readonly string[]): Deno.Command {
  return new Deno.Command(command, { args: [...args, ...own], stdin: "null", stdout: "piped", stderr: "piped" });
}

for (const [how, program] of Object.entries(PROGRAMS)) {
  Deno.test(`a program serves with processes of its own: ${how}`, async () => {
    await using server = await ServeProcess.startCommand(started(program, []));
    const before = await server.untilAnswered(2);
    assert(!before.has(String(server.pid)));
    await until(() => server.output.filter((line) => /module listens on \d+$/.test(line)).length === 2, "both say so");
    const [victim] = before;
    Deno.kill(Number(victim), "SIGKILL");
    await until(() => server.errors.some((line) => line.includes(`(process ${victim}) ended: `)), "its end is told");
    await until(async () => !(await server.untilAnswered(2)).has(victim!), "another takes its place");
    assertEquals((await get(server.port, "/fail")).text, "failed as asked");
  });

  Deno.test({
    name: `a program whose workers are processes of its own replaces them, and ends as told: ${how}`,
    ignore: ON_WINDOWS,
    async fn() {
      await using server = await ServeProcess.startCommand(started(program, []));
      const before = await server.untilAnswered(2);
      server.signal("SIGHUP");
      await until(() => server.output.includes("All workers were replaced"), "they are replaced");
      assertEquals(before.intersection(await server.untilAnswered(2)).size, 0);
      const slow = get(server.port, "/slow");
      await new Promise((resolve) => setTimeout(resolve, 150));
      for (const processId of server.answered) {
        if (!before.has(processId)) Deno.kill(Number(processId), "SIGTERM");
      }
      server.signal("SIGTERM");
      assertEquals((await slow).status, 200);
      assertEquals(await within(20_000, server.code), 0);
    },
  });

  Deno.test(`a program whose workers are processes of its own is replaced by a new version: ${how}`, async () => {
    const control = `${folder}/${how} control`;
    await using server = await ServeProcess.startCommand(started(program, ["0", control]));
    const before = await server.untilAnswered(2);
    const load = server.load(4);
    const upgraded = await ServeProcess.upgrade(control, [`--allow-read=${control}`]);
    assertEquals(upgraded.code, 0, upgraded.errors);
    server.alsoEnds(Number(/Process (\d+) serves now/.exec(upgraded.output)?.[1]));
    assertEquals(await within(30_000, server.code), 0);
    assertEquals(before.intersection(await server.untilAnswered(2)).size, 0);
    const { requests, failures } = await load.end();
    assertEquals(failures, []);
    assert(requests > 10, `${requests} requests`);
  });

  for (
    const [word, message] of [
      ["exits", "ended before it was ready: process "],
      ["never serves", "ended before it was ready: "],
      ["is of a worker", "Cannot serve: this is a process of a worker of process 1, which runs the same program"],
      ["serves another", "Cannot serve a second `main`"],
    ] as const
  ) {
    Deno.test(`a program that ${word} is not started again and again: ${how}`, async () => {
      const { code, output, errors } = await finish(started(program, [word]));
      assertEquals(code, 1, errors);
      assertStringIncludes(errors, message);
      assert(!output.includes("Listening"), output);
    });
  }
}

Deno.test("a compiled program serves what it has in itself, with the permissions that it has", async () => {
  for (
    const [word, message] of [
      ["a path", "this program is compiled, so `main` must be the module itself"],
      ["flags", "Invalid `denoFlags`: must be absent in a compiled program"],
    ] as const
  ) {
    const { code, errors } = await finish(started(PROGRAMS.compiled!, [word]));
    assertEquals(code, 1, errors);
    assertStringIncludes(errors, message);
  }
});

Deno.test("the compiled program of docs/deploying.md serves", async () => {
  await using snippets = await layOutSnippets("docs/deploying.md", ["server.ts"], 0);
  const grants = ["--allow-run", "--allow-env=WINSOCK_HANDOFF_WORKER", FFI_GRANT];
  const program = await compileProgram(new URL("server.ts", snippets.folder), grants, fileURLToPath(snippets.folder));
  await using server = await ServeProcess.startCommand(started(program, []));
  const { status, text } = await get(server.port, "/there");
  assertEquals([status, /^Process \d+ answers \/there\n$/.test(text)], [200, true], text);
  if (!ON_WINDOWS) {
    server.signal("SIGTERM");
    assertEquals(await within(20_000, server.code), 0);
  }
});
