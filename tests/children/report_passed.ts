// Says what each passed socket is, and echoes four bytes on a connection.
import { Socket } from "@winsock/handoff";
import { systemdSockets } from "@winsock/handoff/interop";

using passed = systemdSockets();
for (const [position, name] of passed.names.entries()) {
  try {
    const socket = passed.take(position)!;
    console.log(`${name} ${socket.constructor.name}`);
    if (!(socket instanceof Socket)) continue;
    using conn = socket.toConn();
    const buffer = new Uint8Array(4);
    const length = await conn.read(buffer);
    await conn.write(buffer.subarray(0, length ?? 0));
  } catch (error) {
    console.log(`${name} ${(error as Error).name}`);
  }
}
