// The examples run as they are, under the permissions they say.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { LIBRARY_PATHS } from "@winsock/handoff";
import { fileURLToPath } from "node:url";
import { endChild, FFI_GRANT, lines, RUN, until, within } from "../kit/process.ts";

function runExample(script: string, ...grants: string[]): Promise<{ code: number; output: string }> {
  return runExampleWith([], script, ...grants);
}

async function runExampleWith(
  programArgs: readonly string[],
  script: string,
  ...grants: string[]
): Promise<{ code: number; output: string }> {
  const path = new URL(`../../examples/${script}`, import.meta.url).href;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, path, ...programArgs],
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

Deno.test("a process without net permission answers on the connection it was given", async () => {
  const { code, output } = await runExample("privilege_separation.ts", "--allow-run", FFI_GRANT);
  assertEquals(code, 0, output);
  assertMatch(output, /^Process \d+ answers; it cannot connect anywhere: NotCapable$/m);
});

Deno.test("a client is handed on from the worker that it reached first to the one that has its room", async () => {
  const { code, output } = await runExample("rooms.ts", "--allow-run", FFI_GRANT);
  assertEquals(code, 0, output);
  const processes = [...output.matchAll(/^Process (\d+) has room (\d), and was told "hello"$/gm)];
  assertEquals(processes.map(([_, __, room]) => room), ["0", "1", "2", "3"], output);
  const [first, second, third, fourth] = processes.map(([_, processId]) => processId);
  assertEquals([third, fourth], [first, second]);
  assert(first !== second, output);
  for (const room of [0, 1, 2, 3]) {
    assertMatch(output, new RegExp(`^Worker [01]: the next one is for room ${room}$`, "m"));
  }
});

Deno.test("a connection is handed on with what was read too far, and comes back with it", async () => {
  const { code, output } = await runExample("read_then_hand_off.ts", "--allow-run", FFI_GRANT);
  assertEquals(code, 0, output);
  const [, reader] = /^Process (\d+) has read "room 7", and 11 bytes too far$/m.exec(output) ?? [];
  const [, owner] = /^Process (\d+) answers "hello there"$/m.exec(output) ?? [];
  assertMatch(output, /^Cannot hand off the socket \(rejected\): process \d+ has no room$/m);
  assert(reader !== undefined && owner !== undefined && reader !== owner, output);
  const alone = await runExampleWith(["full"], "read_then_hand_off.ts", "--allow-run", FFI_GRANT);
  assertEquals(alone.code, 0, alone.output);
  assertMatch(alone.output, /^Process (\d+) has read [^]*^Cannot hand off [^]*^Process \1 answers "hello there"$/m);
});

/** Starts an example server; returns its first line, the rest as they come, and an end for it. */
async function startExample(script: string, grants: string[], cwd?: string) {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...grants, new URL(`../../examples/${script}`, import.meta.url).href, "0"],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    ...cwd === undefined ? {} : { cwd },
  }).spawn();
  const line = lines(child as Deno.ChildProcess);
  let first = await line() ?? "";
  while (!first.includes("http://")) first = await line() ?? "http://";
  const [url = ""] = /http:\S+/.exec(first) ?? [];
  return { child, line, url };
}

async function getText(url: string): Promise<string> {
  return await within(20_000, fetch(url, { headers: { connection: "close" } }).then((response) => response.text()));
}

Deno.test("the prefork example answers from several processes", async () => {
  const { child, url } = await startExample("prefork_http.ts", ["--allow-run", FFI_GRANT]);
  try {
    const answers = new Set<string>();
    for (let count = 0; count < 6; count++) answers.add(await getText(`${url}/you`));
    for (const answer of answers) assertMatch(answer, /^Hello you from process \d+\n$/);
    assertEquals(answers.size, navigator.hardwareConcurrency > 6 ? 6 : navigator.hardwareConcurrency);
  } finally {
    await endChild(child);
  }
});

Deno.test("the threads example answers from two threads of one process", async () => {
  const project = fileURLToPath(new URL("../..", import.meta.url));
  const { child, url } = await startExample("threads.ts", [`--allow-read=${project}`, FFI_GRANT]);
  try {
    const threads = new Set<string>();
    for (let count = 0; count < 4; count++) {
      const answer = await getText(`${url}/you`);
      const [, name = answer, pid] = /^\/you from thread (\w+) of process (\d+)\n$/.exec(answer) ?? [];
      assertEquals(Number(pid), child.pid);
      threads.add(name);
    }
    assertEquals(threads.size, 2);
  } finally {
    await endChild(child);
  }
});

Deno.test("the graceful restart example is replaced by the control command", async () => {
  const cwd = await Deno.makeTempDir();
  const grants = [
    "--allow-run",
    "--allow-env=WINSOCK_HANDOFF_PREDECESSOR",
    "--allow-read=server.control",
    "--allow-write=server.control",
    FFI_GRANT,
  ];
  const { child, line, url } = await startExample("graceful_restart.ts", grants, cwd);
  let serving = child.pid;
  const versions: number[] = [];
  try {
    assertEquals(await getText(url), `Hello from process ${child.pid}\n`);
    const control = `${cwd}/server.control`;
    await until(
      () => Deno.statSync(cwd).isDirectory && [...Deno.readDirSync(cwd)].length === 1,
      "it has a control file",
    );
    const cli = new URL("../../cli/mod.ts", import.meta.url).href;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...RUN, "--allow-read", FFI_GRANT, cli, "upgrade", control],
    }).output();
    const said = new TextDecoder().decode(stdout);
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    serving = Number(/^Process (\d+) serves now/.exec(said)?.[1]);
    versions.push(serving);
    assertEquals(await line(), `Process ${serving} serves ${url}`);
    assertEquals(await getText(url), `Hello from process ${serving}\n`);
    if (Deno.build.os === "windows") return;
    Deno.kill(serving, "SIGHUP");
    const next = Number(/^Process (\d+) serves /.exec(await line() ?? "")?.[1]);
    assert(next > 0 && next !== serving);
    versions.push(next);
    assertEquals(await getText(url), `Hello from process ${next}\n`);
  } finally {
    // The oldest first: one that loses its successor too soon would serve again.
    await endChild(child);
    for (const pid of versions) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
    await Deno.remove(cwd, { recursive: true }).catch(() => {});
  }
});
