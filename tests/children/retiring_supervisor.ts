// The supervisor of the documentation of `upgrade`, which says what it has started.
import { inherit, upgrade } from "@winsock/handoff";

const supervisor = await inherit({ predecessor: 0 });
const { addr } = supervisor.listen("http", { hostname: "127.0.0.1", port: 0 });
const script = new URL("telling_version.ts", import.meta.url);
const stop = new AbortController();
const { signal } = stop;
const stopped = new Promise((resolve) => signal.addEventListener("abort", resolve));
Deno.addSignalListener("SIGTERM", () => stop.abort());
while (!signal.aborted) {
  try {
    const serving = await upgrade(supervisor, { script, supervise: true, probation: 100, signal });
    console.log(JSON.stringify({ port: addr.port, processId: serving.processId }));
    await Promise.race([serving.exited, stopped]);
    if (signal.aborted) console.log(JSON.stringify(await serving.retire()));
  } catch (error) {
    if (signal.aborted) break;
    throw error;
  }
}
