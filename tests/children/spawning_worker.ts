// A worker that spawns a program which reads all of the stdin that it inherits, and says how much that was. Each connection
// is answered with its data; the one with `read` gets what the program has read, when that has ended. With the argument
// `before` the program is spawned before `receive` is called; with `too early` it has read HELLO by then.
import { receive } from "@winsock/handoff";

const READ_ALL = `let length = 0;
for await (const chunk of Deno.stdin.readable) {
  if (length === 0) console.log("begun");
  length += chunk.byteLength;
}
console.log(length + " bytes");`;
const reader = new Deno.Command(Deno.execPath(), { args: ["eval", READ_ALL], stdin: "inherit", stdout: "piped" });
let read: Promise<string> | undefined;

const [when] = Deno.args;
const early = when === undefined ? undefined : reader.spawn();
if (when === "too early") await early!.stdout.getReader().read();
else early?.output();

for await (const { socket, data } of receive()) {
  read ??= reader.output().then(({ stdout }) => new TextDecoder().decode(stdout).trim());
  answer(socket.toConn(), data);
}

async function answer(conn: Deno.Conn, data: unknown): Promise<void> {
  using _conn = conn;
  await conn.write(new TextEncoder().encode(data === "read" ? await read : String(data)));
}
