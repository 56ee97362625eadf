import { readFileSync } from 'node:fs';
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { services } from '../../../src/rpc/handlers/handlers.ts';

const protoDir = new URL('../../../proto/', import.meta.url).pathname;

/** The comment above each field of a .proto file, by "<message's full name>.<field>". */
function commentsOf(protoFile: string): Map<string, string> {
  const comments = new Map<string, string>();
  const scopes: string[] = ['millrace.v1'];
  let comment = '';
  for (const line of readFileSync(protoDir + protoFile, 'utf8').split('\n')) {
    const text = line.trim();
    const opened = /^(message|enum|oneof|service) (\w+) \{(\})?$/.exec(text);
    const field = /^(?:optional |repeated )?[\w.<>, ]+ (\w+) = \d+;$/.exec(text);
    if (text.startsWith('//')) comment += `${text.slice(2).trim()} `;
    else if (opened !== null && opened[3] === undefined) scopes.push(opened[1] === 'oneof' ? '' : opened[2]!);
    else if (text === '}') scopes.pop();
    else if (field !== null) comments.set([...scopes.filter((scope) => scope !== ''), field[1]!].join('.'), comment);
    if (!text.startsWith('//')) comment = '';
  }
  return comments;
}

const comments = new Map(
  [
    ...new Set(services.map(({ file }) => file.proto.name)),
    'millrace/v1/record.proto',
    'millrace/v1/offset.proto',
  ].flatMap((file) => [...commentsOf(file)]),
);

/** Every field that a request may hold, with its comment. */
export function requestFields(): { readonly field: DescField; readonly comment: string }[] {
  const messages = new Set<DescMessage>();
  for (const service of services) for (const { input } of service.methods) collect(input, messages);
  return [...messages].flatMap(({ fields }) =>
    fields.map((field) => ({ field, comment: comments.get(`${field.parent.typeName}.${field.name}`) ?? '' })),
  );
}

function collect(message: DescMessage, found: Set<DescMessage>): void {
  if (found.has(message) || !message.typeName.startsWith('millrace.v1.')) return;
  found.add(message);
  for (const field of message.fields) if (field.message !== undefined) collect(field.message, found);
}
