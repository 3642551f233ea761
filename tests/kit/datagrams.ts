/** UDP sockets for tests, and text through them. */
import { type DatagramSocket, listenDatagram } from "@winsock/handoff";
import { within } from "./process.ts";

/** A UDP socket on loopback, on a port of the system's choice. */
export function datagramSocket(hostname = "127.0.0.1"): DatagramSocket {
  return listenDatagram({ hostname, port: 0 });
}

export async function sendText(socket: DatagramSocket, text: string, addr: Deno.NetAddr): Promise<void> {
  await within(20_000, socket.send(new TextEncoder().encode(text), addr));
}

/** The next datagram as text, and who sent it. */
export async function receiveText(socket: DatagramSocket): Promise<[text: string, sender: Deno.NetAddr]> {
  const [data, sender] = await within(20_000, socket.receive());
  return [new TextDecoder().decode(data), sender];
}
