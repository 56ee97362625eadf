import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';

/**
 * Numbers that are written as text in JSON. protobuf-es reads them with `BigInt()` and `Number()`,
 * which also accept "0x1", " 1", "+1" and an empty text, and reads a duration only up to its "s".
 * Such a text must be rejected, because the number may be an offset. The JSON mapping of protobuf
 * allows a number (1, 1.0, 1e3), or a text in decimal.
 */
type Check = (value: unknown, path: string) => void;

const decimalText = /^-?\d+$/;
/**
 * A number of 32 bits may also be written as a JSON number; protobuf-es then checks that it is an
 * integer.
 */
const numberText = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const durationText = /^-?\d+(\.\d{1,9})?s$/;
/** Of a timestamp: YYYY-MM-DD. */
const dayChars = 10;
/** How much of a wrong text is shown. */
const shownCharsMax = 30;

const scalarChecks = new Map<ScalarType, Check>([
  ...[ScalarType.INT64, ScalarType.UINT64, ScalarType.SINT64, ScalarType.FIXED64, ScalarType.SFIXED64].map(
    (type) => [type, textCheck(decimalText, 'a number of 64 bits')] as const,
  ),
  ...[ScalarType.INT32, ScalarType.UINT32, ScalarType.SINT32, ScalarType.FIXED32, ScalarType.SFIXED32].map(
    (type) => [type, textCheck(numberText, 'a number of 32 bits')] as const,
  ),
  ...[ScalarType.DOUBLE, ScalarType.FLOAT].map(
    (type) => [type, textCheck(/^(NaN|-?Infinity|-?\d+(\.\d+)?([eE][+-]?\d+)?)$/, 'a number')] as const,
  ),
]);
const durationCheck = textCheck(durationText, 'a duration');
/** protobuf-es takes the 30th of February for the 2nd of March. */
const timestampCheck: Check = (value, path) => {
  if (typeof value !== 'string') return;
  const day = value.slice(0, dayChars);
  if (new Date(`${day}T00:00:00Z`).toISOString().startsWith(day)) return;
  throw new Error(`${path}: ${JSON.stringify(day)} is not a day of the calendar`);
};

/** The fields of a message that hold numbers, by both of their names in JSON. */
const checksByMessage = new Map<DescMessage, ReadonlyMap<string, Check>>();

/**
 * Checks the numbers of a JSON message that protobuf-es has accepted.
 * @throws Error that names the field
 */
export function checkJsonNumbers(desc: DescMessage, json: unknown, path = ''): void {
  if (typeof json !== 'object' || json === null) return;
  const checks = checksOf(desc);
  if (checks.size === 0) return;
  for (const [name, value] of Object.entries(json)) {
    checks.get(name)?.(value, path === '' ? name : `${path}.${name}`);
  }
}

function checksOf(desc: DescMessage): ReadonlyMap<string, Check> {
  const known = checksByMessage.get(desc);
  if (known !== undefined) return known;
  const checks = new Map<string, Check>();
  checksByMessage.set(desc, checks);
  for (const field of desc.fields) {
    const check = checkOf(field);
    if (check === null) continue;
    checks.set(field.name, check);
    checks.set(field.jsonName, check);
  }
  return checks;
}

function checkOf(field: DescField): Check | null {
  if (field.fieldKind === 'map') return mapCheck(field);
  const one = elementCheck(field);
  if (one === null || field.fieldKind !== 'list') return one;
  return (value, path) => {
    if (Array.isArray(value)) value.forEach((item, index) => one(item, `${path}[${index}]`));
  };
}

function mapCheck(field: DescField & { readonly fieldKind: 'map' }): Check | null {
  const key = scalarChecks.get(field.mapKey) ?? null;
  const one = elementCheck(field);
  if (key === null && one === null) return null;
  return (value, path) => {
    if (typeof value !== 'object' || value === null) return;
    for (const [name, item] of Object.entries(value)) {
      key?.(name, path);
      one?.(item, `${path}.${name}`);
    }
  };
}

function elementCheck({ scalar, message }: DescField): Check | null {
  if (scalar !== undefined) return scalarChecks.get(scalar) ?? null;
  if (message === undefined) return null;
  if (message.typeName === 'google.protobuf.Duration') return durationCheck;
  if (message.typeName === 'google.protobuf.Timestamp') return timestampCheck;
  return (value, path) => {
    checkJsonNumbers(message, value, path);
  };
}

function textCheck(form: RegExp, what: string): Check {
  return (value, path) => {
    if (typeof value !== 'string' || form.test(value)) return;
    throw new Error(`${path}: ${JSON.stringify(value.slice(0, shownCharsMax))} is not ${what}`);
  };
}
