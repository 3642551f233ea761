// A worker that spawns a program which reads all of the stdin that it inherits, and says how much that was. Each connection
// is answered with its data; the one with `read` gets what the program has read, when that has ended.
import { receive } from "@winsock/handoff";

const READ_ALL = `let length = 0;
for await (const chunk of Deno.stdin.readable) length += chunk.byteLength;
console.log(length + " bytes");`;
const reader = new Deno.Command(Deno.execPath(), { args: ["eval", READ_ALL], stdin: "inherit", stdout: "piped" });
let read: Promise<string> | undefined;

for await (const { socket, data } of receive()) {
  read ??= reader.output().then(({ stdout }) => new TextDecoder().decode(stdout).trim());
  answer(socket.toConn(), data);
}

async function answer(conn: Deno.Conn, data: unknown): Promise<void> {
  using _conn = conn;
  await conn.write(new TextEncoder().encode(data === "read" ? await read : String(data)));
}
