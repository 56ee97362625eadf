import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';

/**
 * Gives a decoded message its own copies of its `bytes` fields. The decoder returns views of the
 * request, so one byte of a member's metadata would keep 4 MiB as long as the member lives.
 */
export function ownBytes(desc: DescMessage, message: object): void {
  for (const { desc: field, holdsBytes } of fieldsOf(desc)) {
    const place = field.oneof === undefined ? message : chosenOf(message, field.oneof.localName, field);
    const key = field.oneof === undefined ? field.localName : 'value';
    const values = place as Record<string, unknown> | null;
    if (values?.[key] === undefined) continue;
    if (field.fieldKind === 'scalar') values[key] = copyOf(values[key]);
    else if (field.fieldKind === 'message') ownBytes(field.message, values[key] as object);
    else ownEntries(values[key] as Record<string, unknown>, holdsBytes);
  }
}

/** The entries of a list or a map; `message`: their type, null if they are bytes. */
function ownEntries(entries: Record<string, unknown>, message: DescMessage | null): void {
  for (const key of Object.keys(entries)) {
    if (message === null) entries[key] = copyOf(entries[key]);
    else ownBytes(message, entries[key] as object);
  }
}

function copyOf(bytes: unknown): Uint8Array {
  return new Uint8Array(bytes as Uint8Array);
}

function chosenOf(message: object, oneof: string, { localName }: DescField): object | null {
  const chosen = (message as Readonly<Record<string, { readonly case?: string } | undefined>>)[oneof];
  return chosen?.case === localName ? chosen : null;
}

interface BytesField {
  readonly desc: DescField;
  /** The message type that has the bytes; null: the field itself. */
  readonly holdsBytes: DescMessage | null;
}

/** The fields that are bytes or have bytes below them; most requests have none. */
const fieldsByMessage = new Map<DescMessage, readonly BytesField[]>();

function fieldsOf(desc: DescMessage): readonly BytesField[] {
  let fields = fieldsByMessage.get(desc);
  if (fields === undefined) {
    fields = desc.fields
      .filter((field) => hasBytes(field, new Set()))
      .map((field) => ({ desc: field, holdsBytes: field.message ?? null }));
    fieldsByMessage.set(desc, fields);
  }
  return fields;
}

function hasBytes({ scalar, message }: DescField, above: Set<DescMessage>): boolean {
  if (message === undefined) return scalar === ScalarType.BYTES;
  if (above.has(message)) return false;
  above.add(message);
  return message.fields.some((field) => hasBytes(field, above));
}
