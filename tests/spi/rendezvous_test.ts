// Where a rendezvous is, and who can find it there.
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { fileURLToPath } from "node:url";
import { unixSystem } from "../../ffi/unix/libc.ts";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";
import { moduleUrl, runCode } from "../kit/run.ts";

const onUnix = needs("the unix provider");
const CONFIG = `--config=${fileURLToPath(new URL("../../deno.json", import.meta.url))}`;
/** Only root can have a process see other directories than those that are there. */
const withNamespaces = { ignore: Deno.build.os !== "linux" || Deno.uid() !== 0 || needs("abstract names").ignore };

/** Runs code with the library; what it printed. */
function run(code: string): Promise<string> {
  const imports = `import { duplicateSocket, listen, openSocket } from ${moduleUrl("mod.ts")};
    import { WSAPROTOCOL_INFOW } from ${moduleUrl("structs/mod.ts")};`;
  return runCode(imports + code, FFI_GRANT, "--allow-read=/tmp");
}

Deno.test("a rendezvous' directory is this user's, and goes with the process", onUnix, async () => {
  const output = await run(`
    using listener = listen({ port: 0 });
    const [secret, name] = WSAPROTOCOL_INFOW.decode(duplicateSocket(listener, Deno.pid)).szProtocol.split(" ");
    console.log(name, Deno.statSync(name).isSocket);
    const modes = [name, name.replace(/\\/[^/]*$/, "")].map((path) => Deno.statSync(path).mode & 0o777);
    console.log(modes.map((mode) => mode.toString(8)).join(" "));`);
  const [name, modes] = output.split("\n");
  assertMatch(name!, /^\/tmp\/winsock-handoff-\w{6}\/[0-9a-f-]{36} true$/);
  const isOthers = Deno.uid() === 0 && !unixSystem().processFiles;
  assertEquals(modes, isOthers ? "666 711" : "755 700");
  const directory = name!.slice(0, name!.lastIndexOf("/"));
  await assertRejects(() => Deno.stat(directory), Deno.errors.NotFound);
});

Deno.test("a program that is unloaded leaves no rendezvous and no duplicates", onUnix, async () => {
  const output = await runCode(
    `import { listen } from ${moduleUrl("mod.ts")};
    import { UnixProvider } from ${moduleUrl("spi/mod.ts")};
    import { openStreams } from ${moduleUrl("tests/kit/descriptors.ts")};
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const provider = new UnixProvider();
    const sockets = () => openStreams(Deno.pid).filter((line) => line.includes("socket:")).length;
    const before = sockets();
    for (let count = 0; count < 5; count++) provider.duplicateSocket(listener.handle, Deno.pid);
    console.log(sockets() - before);
    dispatchEvent(new Event("unload"));
    console.log(sockets() - before);`,
    "--allow-all",
  );
  // The rendezvous, two in reserve, and five duplicates. The listener goes with them.
  if (Deno.build.os === "linux") assertEquals(output, "8\n-1");
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

/** What shares a socket within a process prints of its rendezvous, where these directories are read-only. */
async function rendezvousWithout(...directories: string[]): Promise<string> {
  const code = `import { listen } from ${moduleUrl("mod.ts")};
    import { UnixProvider } from ${moduleUrl("spi/mod.ts")};
    import { WSAPROTOCOL_INFOW } from ${moduleUrl("structs/mod.ts")};
    using listener = listen({ hostname: "127.0.0.1", port: 0 });
    const [source, target] = [new UnixProvider(), new UnixProvider()];
    const blob = source.duplicateSocket(listener.handle, Deno.pid);
    target.closeSocket(await target.socket(blob));
    await target.socket(blob).catch((error) => console.log(error.codeName));
    console.log(WSAPROTOCOL_INFOW.decode(blob).szProtocol.split(" ")[1]);`;
  const script = `for directory in ${directories.join(" ")}; do
      mount --bind "$directory" "$directory" && mount -o remount,bind,ro "$directory" || exit 3
    done; exec "$0" "$@"`;
  const run = [Deno.execPath(), ...RUN, CONFIG, FFI_GRANT, `data:text/typescript,${encodeURIComponent(code)}`];
  const command = new Deno.Command("unshare", { args: ["--mount", "sh", "-c", script, ...run] });
  const { stdout, stderr } = await within(20_000, command.output());
  return (new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr)).trim();
}

Deno.test("a rendezvous is in the first directory that can be written", withNamespaces, async () => {
  assertMatch(await rendezvousWithout("/tmp"), /^WSAEINVAL\n\/dev\/shm\/winsock-handoff-\w{6}\/[\w-]{36}$/);
  assertMatch(await rendezvousWithout("/tmp", "/dev/shm"), /^WSAEINVAL\n\/var\/tmp\/winsock-handoff-\w{6}\/[\w-]{36}$/);
});

Deno.test("a rendezvous has an abstract name where no directory can be written", withNamespaces, async () => {
  const name = await rendezvousWithout("/tmp", "/dev/shm", "/var/tmp");
  assertMatch(name, /^WSAEINVAL\n@winsock-handoff\/[\w-]{36}$/);
});
