/** The A form of WSADuplicateSocket, which the library itself does not need: to have real blobs of it. */
import { LIBRARY_PATHS } from "@winsock/handoff";
import { WSAPROTOCOL_INFOA } from "@winsock/handoff/structs";
import { openLibrary } from "../../ffi/library.ts";

/** A blob of 372 bytes, for this process. */
export function duplicateSocketA(s: bigint): Uint8Array<ArrayBuffer> {
  const { WSADuplicateSocketA } = openLibrary([LIBRARY_PATHS[0]!], {
    WSADuplicateSocketA: { parameters: ["usize", "u32", "buffer"], result: "i32" },
  });
  const info = new Uint8Array(WSAPROTOCOL_INFOA.size);
  const result = WSADuplicateSocketA(s, Deno.pid, info);
  if (result !== 0) throw new Error(`WSADuplicateSocketA failed with ${result}`);
  return info;
}
