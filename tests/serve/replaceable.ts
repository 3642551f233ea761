/**
 * `handoff serve` as a server that is replaced again and again under load: its workers, or all of it.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { until } from "../kit/process.ts";
import type { ReplaceableServer } from "../upgrade/load.ts";
import { ServeProcess } from "./serve_process.ts";

const ON_WINDOWS = Deno.build.os === "windows";
/** How long a restart may take: each worker takes seconds to start under Wine. */
const RESTART_MS = 60_000;
const REPLACED = "All workers were replaced";

/** What is replaced: the workers, one after the other, or the whole server. */
export type Replacement = "restart" | "upgrade";

/**
 * Starts `handoff serve` with the Hono application.
 *
 * @param distribute Who accepts.
 * @param workers How many there are.
 * @param plan What the calls of `replace` do, in turn.
 */
export async function startServe(
  distribute: string,
  workers: number,
  plan: readonly Replacement[],
): Promise<ReplaceableServer> {
  await using cleanup = new AsyncDisposableStack();
  const cache = fileURLToPath(new URL("../../.cache", import.meta.url));
  await Deno.mkdir(cache, { recursive: true });
  // A folder of this project, for a worker finds what its program imports by the configuration beside it.
  const folder = await Deno.makeTempDir({ dir: cache });
  cleanup.defer(() => Deno.remove(folder, { recursive: true }));
  const [main, control] = [`${folder}/app.ts`, `${folder}/control`];
  const text = await Deno.readTextFile(new URL("hono_app.ts", import.meta.url));
  await Deno.writeTextFile(main, text);
  // Windows has no signal that means this.
  const watch = ON_WINDOWS ? ["--watch"] : [];
  const server = cleanup.use(
    await ServeProcess.start(
      ["--workers", String(workers), "--distribute", distribute, "--control", control, ...watch, main],
      [`--allow-read=${folder}`, `--allow-write=${folder}`, "--allow-env=WINSOCK_HANDOFF_PREDECESSOR"],
    ),
  );
  let serving = server.pid;
  let [replaced, restarts] = [0, 0];
  const restart = async () => {
    restarts++;
    if (ON_WINDOWS) await Deno.writeTextFile(main, `${text}// ${restarts}\n`);
    else Deno.kill(serving, "SIGHUP");
    await until(() => server.output.filter((line) => line === REPLACED).length === restarts, "all are new", RESTART_MS);
  };
  const upgrade = async () => {
    const upgraded = await ServeProcess.upgrade(control, [`--allow-read=${control}`]);
    const successor = Number(/Process (\d+) serves now/.exec(upgraded.output)?.[1]);
    if (!(successor > 0)) throw new Error(`The upgrade failed: ${upgraded.errors}`);
    server.alsoEnds(successor);
    serving = successor;
  };
  const moved = cleanup.move();
  return {
    port: server.port,
    get serving() {
      return serving;
    },
    async replace() {
      await (plan[replaced++ % plan.length] === "restart" ? restart() : upgrade());
      return serving;
    },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}
