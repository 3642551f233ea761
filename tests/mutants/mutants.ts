/**
 * Defects the tests must find.
 *
 * @module
 */
import { HANDOFF_MUTANTS } from "./handoff_mutants.ts";
import type { Tests } from "./run.ts";
import { SOCKET_MUTANTS } from "./socket_mutants.ts";
import type { Change } from "../../tools/copy.ts";

/** One defect. */
export interface Mutant extends Change {
  readonly name: string;
  /** What goes wrong, in a sentence. */
  readonly breaks: string;
  /** The tests that must find it. */
  readonly tests: Tests;
}

/** Each alone is a mistake somebody could make. */
export const MUTANTS: readonly Mutant[] = [...SOCKET_MUTANTS, ...HANDOFF_MUTANTS];
