// Sends descriptors until no more may be on their way, and once more when they have come; says how that went.
import { receiveDescriptors, sendDescriptors } from "../../ffi/unix/scm_rights.ts";
import { systemCalls } from "../../ffi/system.ts";

const BATCH = 100;
const MOST = 40;

const [near, far] = systemCalls().pair();
const byte = new Uint8Array(1);
const batch = new Array<bigint>(BATCH).fill(near);
let sent = 0;
while (sent < MOST && sendDescriptors(near, byte, batch)) sent++;
console.log(sent < MOST ? "waits" : "has sent all");
for (let count = 0; count < sent; count++) {
  for (const descriptor of receiveDescriptors(far, 1, BATCH)!.descriptors) systemCalls().close(descriptor);
}
console.log(sendDescriptors(near, byte, [near]) ? "sends again" : "still waits");
