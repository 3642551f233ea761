// One server of bytes: prints its port, and serves until it is ended. A connection's first byte says what: w for bytes without
// end, e for all it sends. Its second one says how much is written at a time, as a power of 2.
import { listen } from "@winsock/handoff";
import net, { type AddressInfo } from "node:net";

const ECHO = "e".charCodeAt(0);

switch (Deno.args[0]) {
  case "adopted toNodeSocket()": {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    console.log(listener.addr.port);
    for await (const socket of listener) serveStream(socket.toNodeSocket());
    break;
  }
  case "toConn() by plain calls":
  case "adopted toConn()": {
    const listener = listen({ hostname: "127.0.0.1", port: 0 });
    console.log(listener.addr.port);
    const native = Deno.args[0] === "adopted toConn()";
    for await (const socket of listener) serveConn(socket.toConn({ native })).catch(() => {});
    break;
  }
  case "Deno's node:net": {
    const server = net.createServer(serveStream);
    server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
    break;
  }
  case "Deno.TcpConn": {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    console.log(listener.addr.port);
    for await (const conn of listener) serveConn(conn).catch(() => {});
    break;
  }
}

function serveStream(stream: net.Socket): void {
  stream.on("error", () => stream.destroy());
  stream.once("data", (first: Uint8Array) => {
    if (first[0] === ECHO) {
      if (first.length > 2) stream.unshift(first.subarray(2));
      return void stream.pipe(stream);
    }
    const chunk = new Uint8Array(2 ** first[1]!);
    const write = () => {
      while (stream.writable && stream.write(chunk));
    };
    stream.on("drain", write);
    write();
  });
}

async function serveConn(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  await conn.read(buffer.subarray(0, 2));
  const echo = buffer[0] === ECHO;
  const chunk = new Uint8Array(2 ** buffer[1]!);
  for (;;) {
    const bytes = echo ? buffer.subarray(0, await conn.read(buffer) ?? 0) : chunk;
    if (bytes.length === 0) return conn.close();
    for (let sent = 0; sent < bytes.length;) sent += await conn.write(bytes.subarray(sent));
  }
}
