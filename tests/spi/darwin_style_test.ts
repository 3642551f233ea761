// Linux in macOS' way: the tests of sharing and handing over once more, and the file of the rendezvous.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { NATIVE_PATH, withNative } from "../kit/native.ts";
import { within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const PRELOAD = `--preload=${new URL("../kit/darwin_style.ts", import.meta.url).href}`;
const inDarwinStyle = { ignore: withNative.ignore || Deno.build.os !== "linux" };

/** Runs the tests of files in a process of their own; returns the line that sums them up, or all it printed. */
async function runTests(files: readonly string[]): Promise<string> {
  // A thousand hand-offs leak no more here than elsewhere, and take long.
  const args = ["test", "--quiet", "--allow-all", "--no-check", "--cached-only", "--filter=/^[^1]/", PRELOAD];
  const paths = files.map((file) => new URL(`../${file}`, import.meta.url).href);
  const command = new Deno.Command(Deno.execPath(), { args: [...args, ...paths], env: { NO_COLOR: "1" } });
  const { stdout, stderr } = await command.output();
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return /^ok \| .*/m.exec(output)?.[0] ?? output;
}

/** Runs code with the library, in macOS' way; what it printed. */
function run(code: string): Promise<string> {
  const imports = `import { duplicateSocket, listen, openSocket } from ${moduleUrl("mod.ts")};
    import { WSAPROTOCOL_INFOW } from ${moduleUrl("structs/mod.ts")};`;
  return runCode(imports + code, PRELOAD, `--allow-ffi=${NATIVE_PATH}`, "--allow-read=/tmp");
}

/** The directories of rendezvous; those of processes that were killed outlast them. */
function leftBehind(): string[] {
  const names = [...Deno.readDirSync("/tmp")].map(({ name }) => name);
  return names.filter((name) => name.startsWith("winsock-handoff-")).map((name) => `/tmp/${name}`);
}

/** Whether a process has a directory open, or listens in it: another run of these tests on this machine may. */
function isInUse(directory: string): boolean {
  if (Deno.readTextFileSync("/proc/net/unix").includes(`${directory}/`)) return true;
  const processes = [...Deno.readDirSync("/proc")].filter(({ name }) => /^\d+$/.test(name));
  return processes.some(({ name }) => descriptors(`/proc/${name}/fd`).includes(directory));
}

function descriptors(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => Deno.readLinkSync(`${folder}/${name}`));
  } catch {
    return [];
  }
}

Deno.test("sharing and handing over work in macOS' way", inDarwinStyle, async () => {
  const groups: readonly [files: readonly string[], least: number][] = [
    [["spi/contract_test.ts", "spi/provider_test.ts", "spi/rogue_test.ts"], 40],
    [["handoff/handoff_test.ts", "handoff/source_test.ts", "handoff/target_test.ts", "handoff/abuse_test.ts"], 75],
    [["ffi/decisions_test.ts", "handoff/processes_test.ts"], 12],
    [["sockets/socket_test.ts", "sockets/local_test.ts", "sockets/datagram_test.ts"], 40],
  ];
  const before = leftBehind();
  const summaries = await within(120_000, Promise.all(groups.map(([files]) => runTests(files))));
  // Sources that the tests kill leave their rendezvous behind.
  for (const path of leftBehind().filter((path) => !before.includes(path) && !isInUse(path))) {
    await Deno.remove(path, { recursive: true });
  }
  for (const [index, summary] of summaries.entries()) {
    assert(Number(/^ok \| (\d+) passed/.exec(summary)?.[1] ?? 0) >= groups[index]![1], summary);
  }
});

Deno.test("a rendezvous' directory is this user's, and goes with the process", inDarwinStyle, async () => {
  const output = await run(`
    using listener = listen({ port: 0 });
    const { szProtocol } = WSAPROTOCOL_INFOW.decode(duplicateSocket(listener, Deno.pid));
    console.log(szProtocol, Deno.statSync(szProtocol).isSocket);
    const modes = [szProtocol, szProtocol.replace(/\\/[^/]*$/, "")].map((path) => Deno.statSync(path).mode & 0o777);
    console.log(modes.map((mode) => mode.toString(8)).join(" "));`);
  const [name, modes] = output.split("\n");
  assertMatch(name!, /^\/tmp\/winsock-handoff-\w{6}\/[0-9a-f-]{36} true$/);
  assertEquals(modes, Deno.uid() === 0 ? "666 711" : "755 700");
  const directory = name!.slice(0, name!.lastIndexOf("/"));
  await assertRejects(() => Deno.stat(directory), Deno.errors.NotFound);
});

Deno.test("a blob cannot have a process connect elsewhere than to a rendezvous", inDarwinStyle, async () => {
  const output = await run(`
    using listener = listen({ port: 0 });
    const info = WSAPROTOCOL_INFOW.decode(duplicateSocket(listener, Deno.pid));
    for (const szProtocol of ["/run/secret", "/tmp/winsock-handoff-abcdef/../../run/secret", "winsock-handoff/1/x", ""]) {
      await openSocket(WSAPROTOCOL_INFOW.encode({ ...info, szProtocol })).catch((error) => console.log(error.message));
    }`);
  const lines = output.trim().split("\n");
  assertEquals(lines.length, 4);
  for (const line of lines) assertMatch(line, /is not this system's$/);
});
