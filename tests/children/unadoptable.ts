// A Deno that cannot adopt sockets, as a later one may be: `source` hands a connection to `echo`, another of the kind.
import { connect, HandoffSource, listen } from "@winsock/handoff";
import net from "node:net";
import process from "node:process";
import { readText, writeText } from "../kit/connections.ts";
import { endChild, spawnChild } from "../kit/process.ts";

Object.defineProperty(process, "binding", { value: undefined });

if (Deno.args[0] === "echo") await import("./echo.ts");
else await source();

async function source(): Promise<void> {
  const child = spawnChild("unadoptable.ts", ["echo"]);
  const target = new HandoffSource(child, { sendTimeout: 20_000 });
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const client = (await connect({ port: listener.addr.port })).toConn();
  await target.send(await listener.accept());
  await writeText(client, "hello");
  const other = (await connect({ port: listener.addr.port })).toNodeSocket();
  // What Deno adopts is a socket of node:net.
  console.log(await readText(client, 5), other instanceof net.Socket);
  other.destroy();
  client.close();
  await target.close();
  await endChild(child);
}
