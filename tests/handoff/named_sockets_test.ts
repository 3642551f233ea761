// UDP and local sockets by name, through real upgrades of a real server.
import { assert, assertEquals } from "@std/assert";
import { connect, type DatagramSocket, inherit, listen, upgrade } from "@winsock/handoff";
import { readText } from "../kit/connections.ts";
import { datagramSocket, receiveText, sendText } from "../kit/datagrams.ts";
import { needs } from "../kit/needs.ts";
import { endChild, FFI_GRANT, lines, RUN, until, within } from "../kit/process.ts";

interface Version {
  version: string;
  pid: number;
  port: number;
  names: string[];
}

const SCRIPT = new URL("../children/named_version.ts", import.meta.url).href;

/** Runs the first version, and afterwards ends whichever is there. */
async function withServer(test: (server: Server) => Promise<void>, path = ""): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, FFI_GRANT, "--allow-env", "--allow-run", "--allow-read", SCRIPT, "1", "0", path],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const line = lines(child as Deno.ChildProcess);
  const server = new Server(line, JSON.parse(await line() ?? "{}"));
  try {
    await test(server);
  } finally {
    await endChild(child);
    for (const { pid } of server.versions) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }
}

class Server {
  readonly versions: Version[];
  readonly addr: Deno.NetAddr;

  constructor(readonly line: () => Promise<string | undefined>, first: Version) {
    this.versions = [first];
    this.addr = { transport: "udp", hostname: "127.0.0.1", port: first.port };
  }

  async upgrade(how = ""): Promise<{ processId?: number; outcome?: string }> {
    using client = datagramSocket();
    await sendText(client, `upgrade ${how}`, this.addr);
    const result = JSON.parse((await receiveText(client))[0]);
    if (result.processId !== undefined) this.versions.push(JSON.parse(await this.line() ?? "{}"));
    return result;
  }

  /** Who answers now. */
  async who(): Promise<string> {
    using client = datagramSocket();
    await sendText(client, "who", this.addr);
    return (await receiveText(client))[0];
  }
}

/** Asks again and again; each question is to be answered once. */
class LoadClient {
  readonly socket: DatagramSocket = datagramSocket();
  readonly versions = new Set<string>();
  asked = 0;
  problems: string[] = [];
  #stopped = false;

  async run(addr: Deno.NetAddr): Promise<void> {
    while (!this.#stopped) {
      const question = String(this.asked++);
      await sendText(this.socket, question, addr);
      const [version, , answer] = (await receiveText(this.socket))[0].split(" ");
      this.versions.add(version!);
      if (answer !== question) this.problems.push(`${question} was answered by ${answer}`);
    }
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Whether anything more comes. */
  async silent(): Promise<boolean> {
    const more = this.socket.receive().then(() => false, () => true);
    await new Promise((resolve) => setTimeout(resolve, 300));
    this.socket.close();
    return await more;
  }
}

Deno.test("a UDP server is replaced under load, and no datagram is lost or answered twice", async () => {
  await withServer(async (server) => {
    const clients = Array.from({ length: 8 }, () => new LoadClient());
    const running = Promise.all(clients.map((client) => client.run(server.addr)));
    for (let version = 2; version <= 3; version++) {
      const { processId, outcome } = await server.upgrade();
      assertEquals(outcome, undefined);
      const { pid, port, names } = server.versions.at(-1)!;
      assertEquals([pid, port, names], [processId, server.addr.port, ["echo"]]);
      assertEquals(await server.who(), `${version} ${processId} who`);
    }
    for (const client of clients) client.stop();
    await within(30_000, running);
    assertEquals(clients.flatMap(({ problems }) => problems), []);
    assert((await Promise.all(clients.map((client) => client.silent()))).every(Boolean), "an answer came twice");
    for (const { asked, versions } of clients) assert(asked > 10 && versions.has("1") && versions.has("3"));
  });
});

Deno.test("a new version that crashes leaves the old one receiving", async () => {
  await withServer(async (server) => {
    const [first] = server.versions;
    assertEquals(await server.upgrade("crash"), { outcome: "crashed" });
    assertEquals(await server.who(), `1 ${first!.pid} who`);
    const { processId } = await server.upgrade();
    assertEquals(await server.who(), `2 ${processId} who`);
  });
});

Deno.test("a supervisor keeps the UDP socket while versions come and go", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, FFI_GRANT, "--allow-run", new URL("../children/named_supervisor.ts", import.meta.url).href],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const input = child.stdin.getWriter();
  const line = lines(child);
  const server = new Server(line, JSON.parse(await line() ?? "{}"));
  try {
    using client = datagramSocket();
    await sendText(client, "early", server.addr);
    for (let version = 1; version <= 3; version++) {
      await input.write(new TextEncoder().encode("next\n"));
      // Two processes say a line each, in either order.
      const said: (Version & { processId?: number })[] = [];
      for (let count = 0; count < 2; count++) said.push(JSON.parse(await line() ?? "{}"));
      const started = said.find(({ processId }) => processId === undefined)!;
      server.versions.push(started);
      assertEquals(said.find(({ processId }) => processId !== undefined)?.processId, started.pid);
      if (version === 1) assertEquals((await receiveText(client))[0], `1 ${started.pid} early`);
      assertEquals(await server.who(), `${version} ${started.pid} who`);
    }
  } finally {
    await endChild(child);
    for (const { pid } of server.versions) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }
});

Deno.test("two listeners with one name go to each next version, in the same order", async () => {
  const listeners = [1, 2].map(() => listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map(({ addr }) => addr.port);
  // As a service manager passes them: to the first version only.
  using version = await inherit({ predecessor: 0, sockets: { takeListener: () => listeners.shift() } });
  assertEquals(version.takeListeners("web").map(({ addr }) => (addr as Deno.NetAddr).port), ports);
  for (let count = 0; count < 2; count++) {
    const serving = await upgrade(version, {
      script: new URL("../children/twice_named_version.ts", import.meta.url),
      args: ports.map(String),
      denoFlags: ["--no-check", "--cached-only", FFI_GRANT, "--allow-env=WINSOCK_HANDOFF_PREDECESSOR"],
      supervise: true,
      probation: 100,
    });
    for (const [index, port] of ports.entries()) {
      using conn = (await connect({ port })).toConn();
      assertEquals(await readText(conn, 100), `${serving.processId} listener ${index}`);
    }
    await within(10_000, serving.retire());
  }
});

Deno.test({
  name: "a local listener goes to the next version, by its path and by its abstract name",
  ...needs("local sockets"),
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      const abstract = needs("abstract names").ignore ? [] : [`\0handoff-test-${crypto.randomUUID()}`];
      for (const path of [`${directory}/s`, ...abstract]) {
        await withServer(async (server) => {
          for (let version = 1; version <= 3; version++) {
            using conn = (await connect({ path })).toConn();
            assertEquals(await readText(conn, 100), `${version} ${server.versions.at(-1)!.pid}`);
            if (version === 3) break;
            await server.upgrade();
            assertEquals(server.versions.at(-1)!.names, ["local", "echo"]);
          }
          // The versions before have ended, and the file is there. The last one removes it.
          if (path.startsWith("\0")) return;
          assertEquals((await Deno.lstat(path)).isSocket, true);
          using client = datagramSocket();
          await sendText(client, "end", server.addr);
          await until(() => Deno.lstat(path).then(() => false, () => true), "the file is removed");
        }, path.replace("\0", "@"));
      }
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
