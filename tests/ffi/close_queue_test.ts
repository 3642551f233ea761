// Closing what may take its time.
import { assert, assertEquals } from "@std/assert";
import { CloseQueue } from "../../ffi/unix/libc.ts";
import { newPipe } from "../../ffi/unix/descriptors.ts";
import { countDescriptors } from "../kit/descriptors.ts";
import { needs } from "../kit/needs.ts";
import { within } from "../kit/process.ts";

Deno.test(
  "a queue closes everything, says when it is full, and when one more is closed",
  needs("the unix provider"),
  async () => {
    const pipes = Array.from({ length: 20 }, () => newPipe("have something to close"));
    const before = countDescriptors();
    const queue = new CloseQueue(2, 4);
    const closed: Promise<void>[] = [];
    for (const fd of pipes.flat()) {
      while (queue.full) await within(5_000, queue.next);
      closed.push(queue.close(fd));
      if (closed.length === 4) assert(queue.full, "nothing can be closed before the next turn");
    }
    await within(5_000, Promise.all(closed));
    assert(!queue.full);
    assertEquals(countDescriptors(), before - 40);
  },
);
