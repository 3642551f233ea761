/**
 * A process with broad permissions accepts a connection, and a process with few permissions answers it.
 *
 *     deno run --allow-run --allow-ffi=… examples/privilege_separation.ts
 *
 * The child does not have net permission. It can serve the connection that it receives, and may not open others.
 *
 * @module
 */
import { connect, HandoffSource, LIBRARY_PATHS, listen, receive } from "@winsock/handoff";

if (Deno.args[0] === "child") await serve();
else await accept();

async function accept(): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", `--allow-ffi=${LIBRARY_PATHS.join(",")}`, import.meta.url, "child"],
    stdin: "piped",
  }).spawn();
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  {
    await using source = new HandoffSource(child);
    using client = (await connect({ port: listener.addr.port })).toConn();
    await source.send(await listener.accept());
    console.log(await new Response(client.readable).text());
  }
  Deno.exit((await child.status).code);
}

async function serve(): Promise<void> {
  for await (const { socket } of receive()) {
    using conn = socket.toConn();
    const attempt = await Deno.connect({ hostname: "127.0.0.1", port: 80 }).catch(({ name }) => name);
    await conn.write(new TextEncoder().encode(`Process ${Deno.pid} answers; it cannot connect anywhere: ${attempt}`));
  }
}
