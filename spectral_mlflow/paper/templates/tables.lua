-- Columns of tables: the size of their type, their widths, and whether they are wide (for all columns of a
-- page) or long (for several pages). Lengths are counted in characters; "capacity" says how many a line holds.

local stringify = pandoc.utils.stringify

local PADDING = 1.8
-- What is tried until a table fits: type size, and whether its cells may be broken over lines.
local TRIALS = {
  { 1, false }, { 0.9, false }, { 0.8, false }, { 1, true }, { 0.9, true }, { 0.8, true },
  { 0.7, false }, { 0.7, true }, { 0.62, false }, { 0.62, true }, { 0.5, true },
}

local function length(text)
  return utf8.len(text) or #text
end

-- Length of the longest piece of a text that is not broken over lines. Code that is long may be broken after
-- separators and within runs of hexadecimal digits; "\1" marks the places.
local function longest(text)
  local most = 0
  for piece in text:gmatch("[^%s\1]+") do most = math.max(most, length(piece)) end
  return most
end

local function readable(cell)
  local words = pandoc.Pandoc(cell.contents):walk {
    Math = function(math)
      local tex = math.text:gsub("\\%a+%s*{", "{"):gsub("\\%a+", "x"):gsub("[{}^_\\ ]", "")
      return pandoc.Str(tex)
    end,
    Str = function(word) return pandoc.Str((word.text:gsub(("%x"):rep(16), "%0\1"))) end,
    Code = function(code)
      local text = code.text
      if #text > 16 then text = text:gsub("[%._/=,-]", "%0\1"):gsub(("%x"):rep(16), "%0\1") end
      return pandoc.Str((text:gsub(("[^%s\1]"):rep(5), "%0\2"))) -- Its letters are wider by a fifth.
    end,
  }
  return stringify(words.blocks)
end

local function rows_of(grid)
  local rows = grid.head.rows:clone()
  for _, body in ipairs(grid.bodies) do rows:extend(body.body) end
  return rows
end

local function measured(grid)
  local natural, least = {}, {}
  for place = 1, #grid.colspecs do natural[place], least[place] = 1, 1 end
  for index, row in ipairs(rows_of(grid)) do
    local weight = index <= #grid.head.rows and 1.1 or 1 -- The head is bold.
    for place, cell in ipairs(row.cells) do
      local text = readable(cell)
      natural[place] = math.max(natural[place], weight * length(text))
      least[place] = math.max(least[place], weight * longest(text))
    end
  end
  return natural, least
end

local function sum(values)
  local total = PADDING * #values
  for _, value in ipairs(values) do total = total + value end
  return total
end

-- Shares of the width: each column its longest word, and of the rest what it lacks for one line.
local function shares(natural, least, room)
  local spare, wanted, widths = room - sum(least), 0, {}
  for place, value in ipairs(natural) do wanted = wanted + value - least[place] end
  for place, value in ipairs(natural) do
    local extra = wanted > 0 and math.min(1, spare / wanted) * (value - least[place]) or 0
    widths[place] = (least[place] + extra + PADDING) / room
  end
  return widths
end

-- Type size and column widths (none: as wide as the content) with which a table fits.
local function fitted(natural, least, capacity)
  for _, trial in ipairs(TRIALS) do
    local size, broken = table.unpack(trial)
    local room = capacity / size
    if not broken and sum(natural) <= room then return size, nil end
    if broken and sum(least) <= room then return size, shares(natural, least, room) end
  end
  return 0.5, shares(least, least, sum(least))
end

local LONG = 26 -- Lines of a table from which on it may be torn apart by the end of a page.

local function lines_of(grid, widths, room)
  local lines = 0
  for _, row in ipairs(rows_of(grid)) do
    local most = 1
    for place, cell in ipairs(row.cells) do
      local width = widths and math.max(1, widths[place] * room - PADDING) or math.huge
      most = math.max(most, math.ceil(length(readable(cell)) / width))
    end
    lines = lines + most
  end
  return lines
end

-- "< 0.001" stays on one line.
local function joined(inlines)
  for place = #inlines - 2, 1, -1 do
    local sign = inlines[place]
    if sign.t == "Str" and sign.text == "<" and inlines[place + 1].t == "Space" and inlines[place + 2].t == "Str" then
      inlines[place] = pandoc.Str("<\u{a0}" .. inlines[place + 2].text)
      inlines:remove(place + 2)
      inlines:remove(place + 1)
    end
  end
  return inlines
end

local function columns(meta)
  local capacity = tonumber(meta.capacity and stringify(meta.capacity)) or 85
  local full = tonumber(meta.fullcapacity and stringify(meta.fullcapacity)) or capacity
  local appendix = false
  return function(block)
    if block.t == "Header" and block.classes:includes("appendix") then appendix = true end
    if block.t ~= "Table" then return nil end
    block = block:walk { Inlines = joined }
    local natural, least = measured(block)
    local room = (appendix and full) or capacity
    local wide = room < full and (sum(natural) > 1.6 * room or sum(least) > room)
    local size, widths = fitted(natural, least, wide and full or room)
    for place, spec in ipairs(block.colspecs) do
      block.colspecs[place] = { spec[1], widths and widths[place] or nil }
    end
    block.attributes.size = tostring(size)
    if wide then block.classes:insert("wide") end
    if lines_of(block, widths, (wide and full or room) / size) > LONG then block.classes:insert("long") end
    return block
  end
end

function Pandoc(doc)
  return doc:walk { traverse = "topdown", Block = columns(doc.meta) }
end
