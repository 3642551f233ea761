// Opens the blobs written to its stdin, 628 bytes each, says what happened, and keeps what it opened until stdin ends.
import { type AnySocket, openSocket } from "@winsock/handoff";

const open: AnySocket[] = [];
let bytes = new Uint8Array(0);
console.log("started");
for await (const chunk of Deno.stdin.readable) {
  bytes = new Uint8Array([...bytes, ...chunk]);
  while (bytes.byteLength >= 628) {
    const blob = bytes.slice(0, 628);
    bytes = bytes.slice(628);
    try {
      open.push(await openSocket(blob));
      console.log(`opened ${open.at(-1)?.constructor.name}`);
    } catch (error) {
      const { name, message, codeName } = error as Error & { codeName?: string };
      console.log(`refused ${name} ${codeName ?? ""} ${message}`);
    }
  }
}
