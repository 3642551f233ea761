/** The first bytes of a TLS connection, as Node's client sends them. */
import tls from "node:tls";
import { listen } from "@winsock/handoff";
import { within } from "./process.ts";

/** A whole ClientHello for a server of that name. */
export async function clientHello(servername: string): Promise<Uint8Array> {
  using listener = listen({ hostname: "127.0.0.1", port: 0 });
  const client = tls.connect({ host: "127.0.0.1", port: listener.addr.port, servername });
  client.on("error", () => {});
  using conn = (await listener.accept()).toConn();
  const buffer = new Uint8Array(16_384);
  const length = await within(20_000, conn.read(buffer));
  client.destroy();
  return buffer.slice(0, length ?? 0);
}
