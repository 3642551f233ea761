// Every structure against random and mutated bytes. `deno task fuzz` does it a million times; here it takes seconds.
import fc from "npm:fast-check@4.10.2";
import { assert, assertEquals } from "@std/assert";
import * as structs from "@winsock/handoff/structs";
import type { Struct } from "@winsock/handoff/structs";
import blobs from "../golden/blobs.json" with { type: "json" };

const RUNS = Number(Deno.env.get("FUZZ_RUNS") ?? 2_000);
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 20261121);

const STRUCTS = Object.values(structs).filter((value) =>
  typeof value === "object" && value !== null && "decode" in value
) as unknown as Struct<object>[];

/** Bytes a structure does not keep: those between its fields and behind them. */
function clearPadding(struct: Struct<object>, bytes: Uint8Array): void {
  let end = 0;
  for (const { offset, type } of struct.fields) {
    bytes.fill(0, end, offset);
    end = offset + type.size;
  }
  bytes.fill(0, end);
}

/** What decodes must encode to the same bytes; what does not must say which field, where, and why. */
function check(struct: Struct<object>, bytes: Uint8Array): void {
  let value: object;
  try {
    value = struct.decode(bytes);
  } catch (error) {
    assert(error instanceof RangeError, String(error));
    if (bytes.byteLength !== struct.size) {
      assertEquals(
        error.message,
        `Cannot decode ${struct.name}: expected ${struct.size} bytes, got ${bytes.byteLength}`,
      );
    } else {
      const where = /: (\w+) at offset (\d+): .*-?\d+/.exec(error.message);
      const field = struct.fields.find(({ name }) => name === where?.[1]);
      assertEquals(field?.offset, Number(where?.[2]), error.message);
    }
    return;
  }
  const kept = bytes.slice();
  clearPadding(struct, kept);
  assertEquals(struct.encode(value), kept);
  const reused = new Uint8Array(struct.size).fill(0xff);
  struct.encode(value, reused);
  assertEquals(reused, kept);
  for (const { name } of struct.fields) {
    assertEquals(struct.reader(name as never)(bytes), value[name as keyof object]);
  }
}

for (const struct of STRUCTS) {
  Deno.test(`${struct.name}: any bytes decode and encode to themselves, or are refused by field`, () => {
    const size = fc.uint8Array({ minLength: struct.size, maxLength: struct.size });
    const sparse = fc.tuple(size, fc.nat(struct.size)).map(([bytes, from]) => (bytes.fill(0, from), bytes));
    const wrong = fc.uint8Array({ maxLength: struct.size * 2 });
    const real = blobs[struct.name as keyof typeof blobs] as string | undefined;
    const mutated = real === undefined
      ? sparse
      : fc.array(fc.tuple(fc.nat(struct.size - 1), fc.nat(255)), { maxLength: 8 })
        .map((changes) => {
          const bytes = Uint8Array.fromHex(real);
          for (const [offset, value] of changes) bytes[offset] = value;
          return bytes;
        });
    fc.assert(fc.property(fc.oneof(size, sparse, wrong, mutated), (bytes) => check(struct, bytes)), {
      numRuns: Math.ceil(RUNS / STRUCTS.length),
      seed: SEED,
    });
  });
}
