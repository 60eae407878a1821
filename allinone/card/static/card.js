// Copy buttons, and the servers' state kept fresh. Everything else on the page works without this file.
'use strict';

const refreshEvery = 5000; // milliseconds

// copy works over plain HTTP too, where navigator.clipboard does not exist, and where the browser refuses it.
async function copy(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    // the old way below
  }
  const area = document.createElement('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  if (!done) throw new Error('refused');
}

for (const button of document.querySelectorAll('button[data-copy]')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const status = document.getElementById('copied');
    try {
      await copy(button.dataset.copy);
      status.textContent = 'Copied ' + button.dataset.copy;
      button.classList.add('primary');
      setTimeout(() => button.classList.remove('primary'), 1000);
    } catch {
      status.textContent = 'The browser did not allow copying';
    }
    button.focus();
  });
}

function line(role) {
  const li = document.createElement('li');
  const name = document.createElement('span');
  name.className = 'state ' + (role.error ? 'bad' : 'good');
  name.textContent = role.name;
  const address = document.createElement('span');
  address.className = 'quiet';
  address.textContent = role.address;
  li.append(name, ' ', address);
  if (role.error) li.append(document.createElement('br'), role.error);
  return li;
}

const list = document.getElementById('roles');
let shown = '';
async function refresh() {
  let roles;
  try {
    roles = (await (await fetch('/v1/card')).json()).roles;
  } catch {
    roles = [{name: 'This network', address: location.host, error: 'does not answer'}];
  }
  const now = JSON.stringify(roles);
  if (shown !== '' && now !== shown) list.replaceChildren(...roles.map(line)); // only a change is spoken
  shown = now;
}
setInterval(refresh, refreshEvery);
refresh();
