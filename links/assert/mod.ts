/** The functions of `@std/assert` this project uses, where JSR cannot be reached. */
import * as std from "npm:deno-std@1.4.0/assert/mod.js";

// deno-lint-ignore no-explicit-any -- what a class takes to be made does not matter here
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

export const assert: (expr: unknown, msg?: string) => asserts expr = std.assert;
export const assertEquals: <T>(actual: T, expected: T, msg?: string) => void = std.assertEquals;
export const assertNotEquals: <T>(actual: T, expected: T, msg?: string) => void = std.assertNotEquals;
export const assertGreater: <T>(actual: T, expected: T, msg?: string) => void = std.assertGreater;
export const assertMatch: (actual: string, expected: RegExp, msg?: string) => void = std.assertMatch;
export const assertStringIncludes: (actual: string, expected: string, msg?: string) => void = std.assertStringIncludes;
export const assertInstanceOf: <T>(
  actual: unknown,
  // deno-lint-ignore no-explicit-any -- as above
  expectedType: abstract new (...args: any[]) => T,
  msg?: string,
) => asserts actual is T = std.assertInstanceOf;
export const assertThrows: <E extends Error = Error>(
  fn: () => unknown,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
) => E = std.assertThrows;
export const assertRejects: <E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  msgIncludes?: string,
) => Promise<E> = std.assertRejects;
