// `handoff serve` as a service of systemd: started with a socket, and telling how it is.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { listen, listenDatagram } from "@winsock/handoff";
import { spawnActivated } from "@winsock/handoff/interop";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, RUN, until, within } from "../kit/process.ts";
import { haveProgram } from "../kit/programs.ts";
import { freePort } from "../kit/snippets.ts";
import { withManager } from "../kit/service_manager.ts";
import { get, serveCommand, ServeProcess } from "./serve_process.ts";

const CLI = new URL("../../cli/mod.ts", import.meta.url).href;
const APP = new URL("app.ts", import.meta.url).href;
/** The configuration that the library itself needs here, outside of its folder. */
const CONFIG = fileURLToPath(new URL("../../deno.json", import.meta.url));
const ENV = "LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD,NOTIFY_SOCKET";

Deno.test({
  name: "serve: systemd's socket is served, and systemd hears of ready, reload and stop",
  ignore: needs("systemd").ignore || !haveProgram("python3"),
  async fn() {
    const folder = await Deno.makeTempDir();
    const app = `${folder}/app.ts`;
    await Deno.writeTextFile(app, `export { default } from ${JSON.stringify(APP)};`);
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    try {
      await withManager(async (variables, next) => {
        const args = [...RUN, "--allow-run", FFI_GRANT, `--allow-env=${ENV}`, CLI, "serve", "--systemd"];
        const child = spawnActivated(Deno.execPath(), [["http", listener]], {
          args: [...args, "--workers", "1", app, "--", "--no-check", "--cached-only", `--config=${CONFIG}`],
          env: Object.fromEntries(variables),
          stdio: ["ignore", "ignore", "inherit"],
        });
        const exited = once(child, "exit");
        // The child's own kill() works once.
        const signal = (name: Deno.Signal) => Deno.kill(child.pid!, name);
        listener.close();
        try {
          // A client that comes before the server does waits.
          const early = get(port, "/");
          assertEquals((await within(20_000, next()))[1], "READY=1");
          const { text: first } = await early;
          signal("SIGHUP");
          assertStringIncludes((await within(20_000, next()))[1], "RELOADING=1");
          assertEquals((await within(20_000, next()))[1], "READY=1\nSTATUS=All workers were replaced");
          const { text: second } = await get(port, "/");
          assert(second !== first);
          await Deno.writeTextFile(app, "export default {};");
          signal("SIGHUP");
          assertStringIncludes((await within(20_000, next()))[1], "RELOADING=1");
          assertStringIncludes((await within(20_000, next()))[1], "READY=1\nSTATUS=Cannot replace the workers: ");
          assertEquals((await get(port, "/")).text, second);
          signal("SIGTERM");
          assertEquals((await within(20_000, next()))[1], "STOPPING=1");
          assertEquals((await within(20_000, exited))[0], 0);
        } finally {
          if (child.exitCode === null && child.signalCode === null) signal("SIGKILL");
          await exited;
        }
      }, `${folder}/notify`);
    } finally {
      listener.close();
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "serve: what systemd-socket-activate starts answers those who came before it, and ends with 0",
  ignore: !haveProgram("systemd-socket-activate"),
  async fn() {
    const port = freePort();
    const deno = [Deno.execPath(), ...RUN, "--allow-run", FFI_GRANT, `--allow-env=${ENV}`];
    const serve = [CLI, "serve", "--systemd", "--workers", "2", APP, "--", "--no-check", "--cached-only"];
    const args = ["--listen", `127.0.0.1:${port}`, "--fdname=http", ...deno, ...serve];
    // The first client has it start the server, which takes the place of its process.
    const client = until(async () => {
      return await get(port, "/").then(({ status }) => status === 200, () => false);
    }, "the first client is answered");
    const command = new Deno.Command("systemd-socket-activate", {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    await using server = await ServeProcess.startCommand(command);
    await client;
    assertEquals(server.port, port);
    await server.untilAnswered(2);
    server.signal("SIGTERM");
    assertEquals(await within(20_000, server.code), 0);
  },
});

Deno.test({
  name: "serve: a server on the socket of systemd is replaced through its control file, and keeps its port",
  ignore: !haveProgram("systemd-socket-activate") || !haveProgram("python3"),
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      await withManager(async (variables, next) => {
        const control = `${folder}/control`;
        const port = freePort();
        const grants = [
          `--allow-env=${ENV},WINSOCK_HANDOFF_PREDECESSOR`,
          `--allow-read=${folder}`,
          `--allow-write=${folder}`,
        ];
        const deno = [Deno.execPath(), ...RUN, "--allow-run", FFI_GRANT, ...grants];
        const options = ["--systemd", "--workers", "1", "--control", control];
        const setenv = Array.from(variables, ([name, value]) => `--setenv=${name}=${value}`);
        const serve = [CLI, "serve", ...options, APP, "--", "--no-check", "--cached-only"];
        const client = until(async () => {
          return await get(port, "/").then(({ status }) => status === 200, () => false);
        }, "the first client is answered");
        const command = new Deno.Command("systemd-socket-activate", {
          args: [...setenv, "--listen", `127.0.0.1:${port}`, ...deno, ...serve],
          stdin: "null",
          stdout: "piped",
          stderr: "piped",
        });
        await using server = await ServeProcess.startCommand(command);
        await client;
        assertEquals((await within(20_000, next()))[1], `READY=1\nMAINPID=${server.pid}`);
        const before = await server.untilAnswered(1);
        const load = server.load(4);
        const upgraded = await ServeProcess.upgrade(control, [`--allow-read=${control}`]);
        assertEquals(upgraded.code, 0, upgraded.errors);
        const successor = Number(/Process (\d+) serves now/.exec(upgraded.output)?.[1]);
        server.alsoEnds(successor);
        assertEquals((await within(20_000, next()))[1], `READY=1\nMAINPID=${successor}`);
        assertEquals(await within(30_000, server.code), 0);
        const after = await server.untilAnswered(1);
        assertEquals(before.intersection(after).size, 0);
        assertEquals((await load.end()).failures, []);
        assertEquals(server.errors.filter((line) => line.includes("keeps its address")), []);
      }, `${folder}/notify`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: "serve: a service manager that is gone does not end the server",
  ignore: needs("systemd").ignore,
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      const path = `${folder}/notify`;
      const manager = listenDatagram({ transport: "unixpacket", path });
      const command = serveCommand(["--systemd", "--workers", "1", APP], [`--allow-env=${ENV}`], [], {
        cli: CLI,
        env: { NOTIFY_SOCKET: path },
      });
      const starting = ServeProcess.startCommand(command);
      const [ready] = await within(20_000, manager.receive());
      assertEquals(new TextDecoder().decode(ready), "READY=1");
      await using server = await starting;
      manager.close();
      server.signal("SIGHUP");
      await until(() => server.output.includes("All workers were replaced"), "they are replaced");
      const reports = () => server.errors.filter((line) => line.includes("Cannot notify the service manager: "));
      await until(() => reports().length === 2, `it says so twice: ${server.errors.join("|")}`);
      await server.untilAnswered(1);
      server.signal("SIGTERM");
      assertEquals(await within(20_000, server.code), 0);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
