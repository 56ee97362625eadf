import { rejectionFields } from '../../errors/rejections/rejection.ts';
import type { ErrorKind, ErrorRow } from './error-row.ts';
import { errorTable } from './error-table.ts';

/** What faults and bugs have in their metadata; of rejections their type says it. */
const metadataOfOthers: Partial<Record<ErrorKind, Readonly<Record<string, string>>>> = { BUG: { bugId: 'text' } };

const head = ['reason', 'code', 'details', 'metadata', 'what happened', 'what to do'];
const table = /^\| reason \|.*\n(?:\|.*\n)+/m;

/** docs/errors.md with a fresh table. The sections around the table are written by hand. */
export function errorsDocument(written: string): string {
  if (!table.test(written)) throw new Error('docs/errors.md has no table of reasons');
  // By a function: a replacement text may have a $ in it.
  return written.replace(table, () => errorsTable());
}

function errorsTable(): string {
  const rows = (Object.entries(errorTable) as [ErrorKind, ErrorRow][]).flatMap(([kind, row]) => {
    const { code, happened, remedy } = row;
    if (happened === null || remedy === null) return [];
    return [[`\`${kind}\``, `\`${code}\``, detailsOf(row).join(', '), metadataOf(kind).join(', '), happened, remedy]];
  });
  const lines = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |\n`);
  return lines
    .join('')
    .replaceAll(/ {2,}\|/g, ' |')
    .replaceAll('| --- ', '|---')
    .replaceAll('|--- |', '|---|');
}

function detailsOf({ violations, precondition, quota, retryAfterMs }: ErrorRow): string[] {
  return [
    ...(violations === undefined ? [] : ['BadRequest']),
    ...(precondition === undefined ? [] : ['PreconditionFailure']),
    ...(quota === undefined ? [] : ['QuotaFailure']),
    ...(retryAfterMs === undefined ? [] : ['RetryInfo']),
  ];
}

/** The names of the metadata's fields; a field that is not always there has a question mark. */
function metadataOf(kind: ErrorKind): string[] {
  const fields =
    kind in rejectionFields ? rejectionFields[kind as keyof typeof rejectionFields] : metadataOfOthers[kind];
  return Object.entries<string>(fields ?? {}).map(([name, type]) => `\`${name}\`${type.endsWith('?') ? '?' : ''}`);
}
