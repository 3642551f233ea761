// Descriptors end with the program that has them, where its process goes on.
import { assert, assertEquals } from "@std/assert";
import { listen, Listener } from "@winsock/handoff";
import { fileURLToPath } from "node:url";
import { FFI_GRANT, lines, RUN, until, within } from "../kit/process.ts";
import { moduleUrl } from "../kit/run.ts";

const CONFIG = fileURLToPath(new URL("../../deno.json", import.meta.url));
const onLinux = Deno.build.os === "linux";

/** What every version of a program that is watched does. */
function program(version: number, port: number): string {
  return `
    import { connect, listen, listenDatagram } from ${moduleUrl("mod.ts")};
    const listener = listen({ hostname: "127.0.0.1", port: ${port} });
    const datagrams = listenDatagram({ hostname: "127.0.0.1", port: ${port} });
    datagrams.receive().catch(() => {});
    const held = [];
    for (const native of [true, false]) {
      const [client, server] = await Promise.all([connect({ port: ${port} }), listener.accept()]);
      server.peek(1).catch(() => {});
      held.push(server, client.toConn({ native }));
    }
    console.log("version ${version}");
    for await (const socket of listener) {
      const conn = socket.toConn();
      await conn.write(new TextEncoder().encode("version ${version}"));
      conn.close();
    }`;
}

/** What a server on the port says. */
async function ask(port: number): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const bytes = new Uint8Array(20);
  const count = await within(20_000, conn.read(bytes));
  return new TextDecoder().decode(bytes.subarray(0, count ?? 0));
}

Deno.test("every version of a program that is watched serves", async () => {
  const folder = await Deno.makeTempDir();
  const file = `${folder}/server.ts`;
  const probe = listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = probe.addr;
  probe.close();
  await Deno.writeTextFile(file, program(1, port));
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "--watch", FFI_GRANT, `--config=${CONFIG}`, file],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    env: { NO_COLOR: "1" },
  }).spawn();
  try {
    const line = lines(child);
    const counts: number[] = [];
    const requests: number[] = [];
    for (let version = 1; version <= 4; version++) {
      if (version > 1) await Deno.writeTextFile(file, program(version, port));
      let said: string | undefined;
      do said = await line(); while (said !== undefined && said !== `version ${version}`);
      assertEquals(said, `version ${version}`);
      assertEquals(await ask(port), `version ${version}`);
      if (onLinux) {
        counts.push(openSockets(child.pid));
        requests.push(requestLists(child.pid));
      }
    }
    if (onLinux) assert(counts.at(-1)! <= counts[1]! + 1, `sockets open in one version after the other: ${counts}`);
    // The list of what the event loop has asked the system for ends with the version that has it.
    if (onLinux) assertEquals(requests, [1, 1, 1, 1]);
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await child.stdout.cancel().catch(() => {});
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a Worker that is terminated leaves no descriptor", { ignore: !onLinux }, async () => {
  const source = `
    import { connect, listen, listenDatagram } from ${moduleUrl("mod.ts")};
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const pair = async () => await Promise.all([connect({ port }), listener.accept()]);
    for (let time = 0; time < 5; time++) for (const socket of await pair()) socket.close();
    const [client, server] = await pair();
    server.peek(1).catch(() => {});
    const [stream] = await pair();
    stream.toNodeSocket({ native: false }).on("error", () => {});
    const datagrams = listenDatagram({ hostname: "127.0.0.1", port: 0 });
    datagrams.receive().catch(() => {});
    listener.accept().catch(() => {});
    const kept = listen({ hostname: "127.0.0.1", port: 0 });
    const keptPort = kept.addr.port;
    self.postMessage([port, kept.detach(), keptPort]);`;
  // The first Worker of a process has Deno open some of its own, for good.
  await runWorker("self.postMessage([])");
  const before = openSockets();
  const requestsBefore = requestLists();
  const kept: [handle: bigint, port: number][] = [];
  const ports: number[] = [];
  for (let time = 0; time < 10; time++) {
    const [port, handle, keptPort] = await runWorker<[number, bigint, number]>(source);
    kept.push([handle, keptPort]);
    ports.push(port);
  }
  // A Worker's thread ends when its pool thread has, and that waits a second at most.
  await until(() => openSockets() - before <= kept.length, "all that the Workers had is closed");
  for (const port of ports) assertEquals(await refused(port), true);
  assertEquals(requestLists(), requestsBefore);
  // What was detached is not the Worker's any more.
  for (const [handle, port] of kept) {
    assertEquals(await refused(port), false);
    Listener.fromHandle(handle).close();
  }
  await until(() => openSockets() <= before, "nothing is left");
});

/** What a Worker says first, which is then terminated. */
async function runWorker<T>(source: string): Promise<T> {
  const worker = new Worker(`data:application/typescript,${encodeURIComponent(source)}`, { type: "module" });
  const said = Promise.withResolvers<T>();
  worker.onmessage = ({ data }) => said.resolve(data);
  worker.onerror = (event) => (event.preventDefault(), said.reject(new Error(event.message)));
  try {
    return await within(20_000, said.promise);
  } finally {
    worker.terminate();
  }
}

/** How many sockets and events a process has open. */
function openSockets(processId: number = Deno.pid): number {
  const folder = `/proc/${processId}/fd`;
  let count = 0;
  for (const { name } of Deno.readDirSync(folder)) {
    try {
      if (/^(socket|anon_inode)/.test(Deno.readLinkSync(`${folder}/${name}`))) count++;
    } catch {
      // It was closed meanwhile.
    }
  }
  return count;
}

/** How many lists of requests of asynchronous I/O (`io_setup(2)`) a process has: they are memory, and not descriptors. */
function requestLists(processId: number = Deno.pid): number {
  return Deno.readTextFileSync(`/proc/${processId}/maps`).split("\n").filter((line) => line.includes("[aio]")).length;
}

async function refused(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return false;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return true;
    throw error;
  }
}
