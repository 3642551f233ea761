// Reads a number from each connection, answers with it after a moment, and waits for the client to end.
import { receive } from "@winsock/handoff";

const [delay = "0"] = Deno.args;
for await (const { socket, data } of receive()) serve(socket.toConn(), data);

async function serve(conn: Deno.Conn, data: unknown): Promise<void> {
  try {
    const buffer = new Uint8Array(32);
    const length = await conn.read(buffer) ?? 0;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * Number(delay)));
    const id = new TextDecoder().decode(buffer.subarray(0, length)).trim();
    await conn.write(new TextEncoder().encode(`${id} ${data} ${Deno.pid}\n`));
    while (await conn.read(buffer) !== null);
  } catch {
    // the client has gone
  } finally {
    conn.close();
  }
}
