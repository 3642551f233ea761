/** Whether something leaves descriptors behind. */
import { assert } from "@std/assert";
import { countDescriptors } from "./descriptors.ts";

const ROUNDS = 40;

/**
 * Does something many times and counts. The runtime opens and closes a few handles of its own meanwhile; one left behind
 * in every round shows.
 */
export async function assertNothingLeaks(round: () => void | Promise<void>): Promise<void> {
  await round();
  const before = countDescriptors();
  for (let count = 0; count < ROUNDS; count++) await round();
  const more = countDescriptors() - before;
  assert(more < ROUNDS / 2, `${more} descriptors more after ${ROUNDS} rounds`);
}
