// Opens the blobs written to its stdin, 628 bytes each, without returning to its event loop, and says what happened.
import { UnixProvider } from "@winsock/handoff/spi";

const provider = new UnixProvider();
let bytes = new Uint8Array(0);
console.log("started");
for await (const chunk of Deno.stdin.readable) {
  bytes = new Uint8Array([...bytes, ...chunk]);
  while (bytes.byteLength >= 628) {
    const blob = bytes.slice(0, 628);
    bytes = bytes.slice(628);
    try {
      provider.socketSync(blob);
      console.log("opened");
    } catch (error) {
      console.log(`refused ${(error as { codeName?: string }).codeName}`);
    }
  }
}
