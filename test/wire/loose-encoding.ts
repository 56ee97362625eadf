import fc from 'fast-check';

/**
 * Publish requests as odd clients may write them: every encoding here is valid protobuf and every
 * one of them is decoded by protobuf-es, but hardly any is what an ordinary encoder makes. Fields
 * come in any order and more than once, numbers and lengths are padded, unknown fields lie between,
 * and headers are scattered, incomplete or repeat their parts.
 */

/** Text of any characters, now and then longer than what is checked byte by byte. */
export const text: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 12 }) },
  { weight: 3, arbitrary: fc.string({ unit: 'binary', maxLength: 12 }) },
  { weight: 1, arbitrary: fc.string({ minLength: 70, maxLength: 120 }) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', minLength: 30, maxLength: 60 }) },
);

export const bytes: fc.Arbitrary<Buffer> = fc.uint8Array({ maxLength: 200 }).map((value) => Buffer.from(value));

export const topic: fc.Arbitrary<string> = fc.stringMatching(/^[A-Za-z0-9._-]{1,30}$/);

/** How many bytes more than necessary a varint takes; mostly none. */
const padding = fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(9) });

function varint(value: bigint, pad: number, bytesMax: number): Buffer {
  const encoded: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    encoded.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  } while (rest > 0n);
  for (let i = 0; i < pad && encoded.length < bytesMax; i += 1) encoded.push(0x80);
  encoded[encoded.length - 1]! &= 0x7f;
  return Buffer.from(encoded);
}

function tag(number: number, wireType: number, pad: number): Buffer {
  return varint(BigInt(number) * 8n + BigInt(wireType), pad, 5);
}

function lengthField(number: number, content: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc
    .tuple(padding, padding, content)
    .map(([tagPad, pad, value]) =>
      Buffer.concat([tag(number, 2, tagPad), varint(BigInt(value.length), pad, 10), value]),
    );
}

function textField(number: number, content: fc.Arbitrary<string>): fc.Arbitrary<Buffer> {
  return lengthField(
    number,
    content.map((value) => Buffer.from(value)),
  );
}

function varintField(number: number, value: fc.Arbitrary<bigint>): fc.Arbitrary<Buffer> {
  return fc
    .tuple(padding, padding, value)
    .map(([tagPad, pad, number64]) => Buffer.concat([tag(number, 0, tagPad), varint(number64, pad, 10)]));
}

function unknownField(numberMin: number): fc.Arbitrary<Buffer> {
  const number = fc.oneof(fc.integer({ min: numberMin, max: 40 }), fc.integer({ min: 41, max: 2 ** 29 - 1 }));
  return number.chain((field) =>
    fc.oneof(
      varintField(field, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
      lengthField(field, bytes),
      fc.uint8Array({ minLength: 8, maxLength: 8 }).map((value) => Buffer.concat([tag(field, 1, 0), value])),
      fc.uint8Array({ minLength: 4, maxLength: 4 }).map((value) => Buffer.concat([tag(field, 5, 0), value])),
    ),
  );
}

function message(countMax: number, ...fields: fc.Arbitrary<Buffer>[]): fc.Arbitrary<Buffer> {
  return fc.array(fc.oneof(...fields), { maxLength: countMax }).map((parts) => Buffer.concat(parts));
}

const plainEntry = fc.tuple(textField(1, text), textField(2, text)).map((parts) => Buffer.concat(parts));
const looseEntry = message(4, textField(1, text), textField(2, text), unknownField(3));

const record = message(
  10,
  textField(1, text),
  lengthField(2, bytes),
  lengthField(3, plainEntry),
  lengthField(3, plainEntry),
  lengthField(3, looseEntry),
  textField(4, text),
  unknownField(5),
);

const anyFields = message(
  8,
  textField(1, text),
  lengthField(2, record),
  lengthField(2, record),
  varintField(3, fc.bigInt({ min: -(2n ** 31n), max: 2n ** 31n - 1n })),
  varintField(4, fc.bigInt({ min: -1n, max: 9n })),
  varintField(5, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  varintField(6, fc.bigInt({ min: -(2n ** 31n), max: 2n ** 31n - 1n })),
  unknownField(7),
);

/** What comes last counts: good values for all that came before. */
const goodFields = fc.tuple(
  varintField(3, fc.bigInt({ min: 0n, max: 2n ** 31n - 1n })),
  varintField(4, fc.bigInt({ min: 0n, max: 2n })),
  varintField(5, fc.bigInt({ min: 0n, max: 2n ** 53n - 1n })),
  varintField(6, fc.bigInt({ min: 0n, max: 2n ** 31n - 1n })),
  textField(1, topic),
  lengthField(2, record),
);

/** A request that is valid, whatever it looks like. */
export const looseRequest: fc.Arbitrary<Buffer> = fc
  .tuple(anyFields, goodFields)
  .map(([any, good]) => Buffer.concat([any, ...good]));
