// Accepts connections and hands each to the worker named as its argument.
import { HandoffSource, LIBRARY_PATHS, listen } from "@winsock/handoff";

const child = new Deno.Command(Deno.execPath(), {
  args: ["run", "--cached-only", "--no-prompt", `--allow-ffi=${LIBRARY_PATHS.join(",")}`, Deno.args[0]!],
  stdin: "piped",
}).spawn();
await using worker = new HandoffSource(child);

using listener = listen({ hostname: "127.0.0.1", port: 0 });
console.log(listener.addr.port);
for await (const socket of listener) {
  // What was read to decide about the connection goes along with it.
  const first = await socket.read(4);
  if (first !== null) socket.unread(first);
  await worker.send(socket, { data: { acceptedBy: Deno.pid } });
}
