// Serves HTTP as the module that its first argument names says, by the engine that the second names.
import { receive } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

const { version } = await import(Deno.args[0]!) as { version: string };
await serveHttp(receive(), async () => {
  await new Promise((resolve) => setTimeout(resolve, 2));
  return new Response(`${version} ${Deno.pid}`);
}, { engine: (Deno.args[1] ?? "auto") as "auto" }).finished;
