/** Whether something leaves descriptors behind. */
import { assert } from "@std/assert";
import { countDescriptors } from "./descriptors.ts";

const ROUNDS = 40;
const PATIENCE_MS = 1_000;

/**
 * Does something many times (40, or as often as it is told) and counts. The runtime opens and closes a few handles of its own meanwhile; one left behind
 * in every round shows.
 */
export async function assertNothingLeaks(round: () => void | Promise<void>, rounds = ROUNDS): Promise<void> {
  await round();
  const before = countDescriptors();
  for (let count = 0; count < rounds; count++) await round();
  const deadline = performance.now() + PATIENCE_MS;
  let more = countDescriptors() - before;
  // What is to be closed when the other end has been heard of has not been, where no round waits for anything.
  while (more >= rounds / 2 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    more = countDescriptors() - before;
  }
  assert(more < rounds / 2, `${more} descriptors more after ${rounds} rounds`);
}
