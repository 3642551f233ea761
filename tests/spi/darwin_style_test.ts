// Linux in macOS' way: the tests of sharing and handing over once more, and where a rendezvous is.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { withNative } from "../kit/native.ts";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const PRELOAD = `--preload=${new URL("../kit/darwin_style.ts", import.meta.url).href}`;
const onUnix = needs("the unix provider");
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

/** Runs code with the library; what it printed. */
function run(code: string): Promise<string> {
  const imports = `import { duplicateSocket, listen, openSocket } from ${moduleUrl("mod.ts")};
    import { WSAPROTOCOL_INFOW } from ${moduleUrl("structs/mod.ts")};`;
  return runCode(imports + code, FFI_GRANT, "--allow-read=/tmp");
}

/** The directories of rendezvous; those of processes that were killed outlast them. */
function leftBehind(): string[] {
  const names = [...Deno.readDirSync("/tmp")].map(({ name }) => name);
  return names.filter((name) => name.startsWith("winsock-handoff-")).map((name) => `/tmp/${name}`);
}

Deno.test("sharing and handing over work in macOS' way", inDarwinStyle, async () => {
  const groups: readonly [files: readonly string[], least: number][] = [
    [["spi/contract_test.ts", "spi/provider_test.ts", "spi/rogue_test.ts"], 40],
    [["handoff/handoff_test.ts", "handoff/protocol_test.ts"], 25],
    [["sockets/socket_test.ts", "sockets/local_test.ts", "sockets/datagram_test.ts"], 40],
  ];
  const before = leftBehind();
  const summaries = await within(60_000, Promise.all(groups.map(([files]) => runTests(files))));
  // Sources that the tests kill leave their rendezvous behind.
  for (const path of leftBehind().filter((path) => !before.includes(path))) {
    await Deno.remove(path, { recursive: true });
  }
  for (const [index, summary] of summaries.entries()) {
    assert(Number(/^ok \| (\d+) passed/.exec(summary)?.[1] ?? 0) >= groups[index]![1], summary);
  }
});

Deno.test("a rendezvous' directory is this user's, and goes with the process", onUnix, async () => {
  const output = await run(`
    using listener = listen({ port: 0 });
    const [secret, name] = WSAPROTOCOL_INFOW.decode(duplicateSocket(listener, Deno.pid)).szProtocol.split(" ");
    console.log(name, Deno.statSync(name).isSocket);
    const modes = [name, name.replace(/\\/[^/]*$/, "")].map((path) => Deno.statSync(path).mode & 0o777);
    console.log(modes.map((mode) => mode.toString(8)).join(" "));`);
  const [name, modes] = output.split("\n");
  assertMatch(name!, /^\/tmp\/winsock-handoff-\w{6}\/[0-9a-f-]{36} true$/);
  assertEquals(modes, Deno.uid() === 0 ? "666 711" : "755 700");
  const directory = name!.slice(0, name!.lastIndexOf("/"));
  await assertRejects(() => Deno.stat(directory), Deno.errors.NotFound);
});

Deno.test("a blob cannot have a process connect elsewhere than to a rendezvous", onUnix, async () => {
  const output = await run(`
    using listener = listen({ port: 0 });
    const info = WSAPROTOCOL_INFOW.decode(duplicateSocket(listener, Deno.pid));
    const [secret, name] = info.szProtocol.split(" ");
    const places = ["/run/secret", "/tmp/winsock-handoff-abcdef/../../run/secret", "@winsock-handoff/1/x", "@name", "", name + "\\0x"];
    const names = [name, "x " + name, secret.slice(1) + " " + name, secret + "0 " + name];
    for (const szProtocol of [...places.map((place) => secret + " " + place), ...names]) {
      const blob = WSAPROTOCOL_INFOW.encode({ ...info, szProtocol });
      await openSocket(blob).then(() => console.log("opened"), (error) => console.log(error.message));
    }`);
  const lines = output.trim().split("\n");
  assertEquals(lines.length, 10);
  for (const line of lines) assertMatch(line, /WSAEINVAL \(10022\): it does not name a rendezvous of this system$/);
});
