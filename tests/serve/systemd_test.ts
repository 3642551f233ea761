// `handoff serve` as a service of systemd: started with a socket, and telling how it is.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { listen } from "@winsock/handoff";
import { spawnActivated } from "@winsock/handoff/interop";
import { once } from "node:events";
import { needs } from "../kit/needs.ts";
import { FFI_GRANT, RUN, within } from "../kit/process.ts";
import { haveProgram } from "../kit/programs.ts";
import { withManager } from "../kit/service_manager.ts";
import { get } from "./serve_process.ts";

const CLI = new URL("../../cli/mod.ts", import.meta.url).href;
const APP = new URL("app.ts", import.meta.url).href;
const ENV = "LISTEN_PID,LISTEN_PIDFDID,LISTEN_FDS,LISTEN_FDNAMES,LISTEN_FDS_FIRST_FD,NOTIFY_SOCKET";

Deno.test({
  name: "serve: systemd's socket is served, and systemd hears of ready, reload and stop",
  ignore: needs("systemd").ignore || !haveProgram("python3"),
  async fn() {
    const folder = await Deno.makeTempDir();
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    try {
      await withManager(async (variables, next) => {
        const args = [...RUN, "--allow-run", FFI_GRANT, `--allow-env=${ENV}`, CLI, "serve", "--systemd"];
        const child = spawnActivated(Deno.execPath(), [["http", listener]], {
          args: [...args, "--workers", "1", APP, "--", "--no-check", "--cached-only"],
          env: Object.fromEntries(variables),
          stdio: ["ignore", "ignore", "inherit"],
        });
        const exited = once(child, "exit");
        listener.close();
        try {
          // A client that comes before the server does waits.
          const early = get(port, "/");
          assertEquals((await within(20_000, next()))[1], "READY=1");
          const { text: first } = await early;
          child.kill("SIGHUP");
          assertStringIncludes((await within(20_000, next()))[1], "RELOADING=1");
          assertEquals((await within(20_000, next()))[1], "READY=1");
          assert((await get(port, "/")).text !== first);
          child.kill("SIGTERM");
          assertEquals((await within(20_000, next()))[1], "STOPPING=1");
          assertEquals((await within(20_000, exited))[0], 0);
        } finally {
          child.kill("SIGKILL");
          await exited;
        }
      }, `${folder}/notify`);
    } finally {
      listener.close();
      await Deno.remove(folder, { recursive: true });
    }
  },
});
