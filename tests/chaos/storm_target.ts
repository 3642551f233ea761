// Takes connections, answers each with what it has read, and waits for the client to end.
import { receive } from "@winsock/handoff";
import type { StormEvent } from "./storm.ts";

for await (const { socket, data } of receive()) {
  report({ id: data as number, taken: Deno.pid });
  serve(socket.toConn());
}

async function serve(conn: Deno.Conn): Promise<void> {
  try {
    const buffer = new Uint8Array(32);
    const length = await conn.read(buffer) ?? 0;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
    await conn.write(new TextEncoder().encode(`${new TextDecoder().decode(buffer.subarray(0, length))} ${Deno.pid}\n`));
    while (await conn.read(buffer) !== null);
  } catch {
    // the client has gone
  } finally {
    conn.close();
  }
}

function report(event: StormEvent): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${JSON.stringify(event)}\n`));
}
