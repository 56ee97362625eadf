import { groupNotEmpty } from '../../errors/rejections/groups.ts';
import type { GroupModel } from './model.ts';

/** @throws Rejection GROUP_NOT_EMPTY */
export function refuseUnlessEmpty({ name, members }: GroupModel): void {
  if (members.size > 0) throw groupNotEmpty({ group: name, members: members.size });
}
