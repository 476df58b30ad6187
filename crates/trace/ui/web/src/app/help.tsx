/** The keys of the page, in a dialog. */

import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { EVERYWHERE, LISTS, TRACE, type ShortcutGroup } from '../core/shortcuts.ts';
import { Icon } from './icon.tsx';
import { route } from './router.ts';
import { singleKeys } from './settings.ts';

export const helpOpen = signal(false);

export function HelpDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpOpen.value;
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const groups = route.value.page === 'trace' ? [TRACE, EVERYWHERE] : [LISTS, EVERYWHERE];
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={() => (helpOpen.value = false)}>
      <div class="help-head">
        <h2 id="help-title">Keys</h2>
        <button type="button" class="plain square" aria-label="Close" onClick={() => (helpOpen.value = false)}>
          <Icon name="close" />
        </button>
      </div>
      {open && (
        <>
          <div class="help-groups">
            {groups.map((group) => (
              <Group key={group.title} group={group} />
            ))}
          </div>
          <label class="check">
            <input
              type="checkbox"
              checked={singleKeys.value === 'on'}
              onChange={(event) => (singleKeys.value = event.currentTarget.checked ? 'on' : 'off')}
            />
            Single letters are commands
          </label>
        </>
      )}
    </dialog>
  );
}

function Group({ group }: { group: ShortcutGroup }) {
  return (
    <section>
      <h3>{group.title}</h3>
      <dl>
        {group.shortcuts.map((shortcut) => (
          <div key={shortcut.does}>
            <dt>
              {shortcut.keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{shortcut.does}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
