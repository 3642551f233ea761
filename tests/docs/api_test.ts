// What is written down of the public API has all that matters to those who use it, and nothing else.
import { assertEquals } from "@std/assert";
import { difference } from "../../tools/api.ts";
import { printExports } from "../../tools/api/declarations.ts";
import { readExports } from "../../tools/api/doc.ts";

const MODULE = `
/** A class. */
export abstract class Base<T extends object = { a: 1 }> implements Disposable {
  static #count = 1;
  private b = 1;
  protected readonly c?: T;
  constructor(readonly d: string, private e = 1) {}
  abstract f(g?: number, ...rest: string[]): this;
  get h(): number {
    return 1;
  }
  i(a: string): string;
  i(a: number): number;
  i(a: unknown): unknown {
    return a;
  }
  [Symbol.dispose](): void {}
}
export class Closed extends Base<{ a: 1 }> {
  private constructor(secret: string) {
    super(secret);
  }
  f(): this {
    return this;
  }
  static of(): Closed {
    return new Closed("");
  }
}
export interface Call<A> extends Iterable<A> {
  (a: A): asserts a is A & string;
  new (a: string): Call<A>;
  readonly [key: \`x-\${string}\`]: unknown;
  "a-b"?: 1n;
}
export enum Color {
  Red = 1,
  Green = "g",
}
/** @experimental */
export type Choice<T> = T extends readonly (infer U)[] ? keyof U : (() => void) | [a: 1, b?: true] | typeof MAX;
export type Mapped<T> = { -readonly [K in keyof T as \`get\${K & string}\`]+?: T[K] };
export const MAX: number = 1;
export const TABLE = { one: 1, two: ["a", 1] as readonly [string, number] };
export function open({ a }: { a?: string } = {}, b = 1): Promise<void> {
  return Promise.resolve();
}
const secret = 1;
`;

const PRINTED = `\
abstract class Base<T extends object = { a: 1 }> implements Disposable
  constructor(d: string, e?: number)
  [Symbol.dispose](): void
  protected readonly c?: T
  readonly d: string
  abstract f(g?: number, ...rest: string[]): this
  get h(): number
  i(a: string): string
  i(a: number): number
interface Call<A> extends Iterable<A>
  (a: A): asserts a is A & string
  new (a: string): Call<A>
  "a-b"?: 1n
  readonly [key: \`x-\${string}\`]: unknown
@experimental type Choice<T> = T extends readonly (infer U)[] ? keyof U : (() => void) | [1, true] | typeof MAX
class Closed extends Base<{ a: 1 }>
  private constructor
  f(): this
  static of(): Closed
enum Color
  Red = 1
  Green = "g"
const MAX: number
type Mapped<T> = { -readonly [K in keyof T as \`get\${K & string}\`]+?: T[K] }
const TABLE
  one: number
  two: readonly [string, number]
function open({}?: { a?: string }, b?: number): Promise<void>
`;

Deno.test("names, signatures and members that others see are written down, a line each", async () => {
  const path = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(path, MODULE);
    assertEquals(printExports(await readExports(path)), PRINTED);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("a difference shows the lines that differ", () => {
  assertEquals(difference("api.txt", "a\nb\nc\n", "a\nb\nc\n"), "");
  const lines = difference("api.txt", "a\nb\nc\n", "a\nd\nc\n").split("\n");
  assertEquals(lines.filter((line) => /^[-+](?![-+])/.test(line)), ["-b", "+d"]);
});
