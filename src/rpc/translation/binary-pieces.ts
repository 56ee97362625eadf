import { create, mergeFromBinary, type DescField, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { limits } from '../../limits/limits.ts';

type Decoded = MessageShape<DescMessage>;
type MessageField = DescField & { readonly message: DescMessage };

/**
 * Decodes a message field by field, because the decoding of 100,000 entries at once stops the event
 * loop for a third of a second. The work between two yields is short.
 * @throws Error
 */
export function* binaryPieces<D extends DescMessage>(desc: D, bytes: Buffer): Generator<null, MessageShape<D>> {
  const message = create(desc);
  yield* merge(desc, message, bytes);
  return message;
}

function* merge(desc: DescMessage, message: Decoded, bytes: Buffer): Generator<null> {
  const fields = new Map(desc.fields.map((field) => [field.number, field]));
  const reader = new BinaryReader(bytes);
  /** What is before it is in the message. */
  let done = 0;
  let waiting = 0;
  const mergeUpTo = (end: number): void => {
    mergeFromBinary(desc, message, bytes.subarray(done, end), { readUnknownFields: false });
    done = end;
    waiting = 0;
  };
  while (reader.pos < bytes.length) {
    const start = reader.pos;
    const [number, wireType] = reader.tag();
    const contentStart = reader.pos;
    reader.skip(wireType, number);
    waiting += 1;
    const field = fields.get(number);
    if (
      wireType === WireType.LengthDelimited &&
      reader.pos - contentStart > limits.bytesAtOnceMax &&
      hasMessage(field)
    ) {
      mergeUpTo(start);
      yield null;
      yield* merge(field.message, childOf(message, field), contentOf(bytes, contentStart, reader.pos));
      done = reader.pos;
    } else if (reader.pos - done > limits.bytesAtOnceMax || waiting >= limits.entriesAtOnceMax) {
      mergeUpTo(reader.pos);
      yield null;
    }
  }
  mergeUpTo(bytes.length);
}

function hasMessage(field: DescField | undefined): field is MessageField {
  return field?.message !== undefined && field.fieldKind !== 'map';
}

/** The content of a field, behind its length. */
function contentOf(bytes: Buffer, start: number, end: number): Buffer {
  const reader = new BinaryReader(bytes.subarray(start, end));
  reader.uint32();
  return bytes.subarray(start + reader.pos, end);
}

/** Where the bytes of the field are merged: a new entry of a list, or the one message. */
function childOf(message: Decoded, { fieldKind, localName, oneof, message: desc }: MessageField): Decoded {
  const fields = message as unknown as Record<string, unknown>;
  if (fieldKind === 'list') {
    const child = create(desc);
    (fields[localName] as Decoded[]).push(child);
    return child;
  }
  if (oneof === undefined) return (fields[localName] ??= create(desc)) as Decoded;
  const chosen = fields[oneof.localName] as { readonly case?: string; readonly value?: Decoded };
  if (chosen.case === localName && chosen.value !== undefined) return chosen.value;
  const child = create(desc);
  fields[oneof.localName] = { case: localName, value: child };
  return child;
}
