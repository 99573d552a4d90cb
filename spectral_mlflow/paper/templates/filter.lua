-- From the document as people read it in Markdown to its parts, the same for every format: the first
-- heading is the title, the paragraph below it the subtitle, "Abstract" the abstract. What has a number
-- becomes a Div that carries it (attribute "number"), of class equation, figure, table or reference;
-- its caption, without "Figure 1.", is the Div of class caption inside. Tables get their column widths.

local stringify = pandoc.utils.stringify

local function anchor_of(block)
  if (block.t ~= "Para" and block.t ~= "Plain") or #block.content == 0 then return nil end
  local first = block.content[1]
  if first.t ~= "RawInline" or first.format ~= "html" then return nil end
  return first.text:match('^<a id="([%w_:.-]+)">$')
end

local function without_anchor(block)
  local words = block.content:clone()
  words:remove(1)
  if words[1] and words[1].t == "RawInline" and words[1].text == "</a>" then words:remove(1) end
  return words
end

-- Kind, number and words of the paragraph "<a id="fig-1"></a>*Figure 1. Words.*"
local function caption_of(block)
  local kind, number = (anchor_of(block) or ""):match("^(%a+)-(%d+)$")
  if kind ~= "fig" and kind ~= "tab" then return nil end
  local words = without_anchor(block)
  if #words ~= 1 or words[1].t ~= "Emph" then return nil end
  words = words[1].content:clone()
  for _ = 1, 4 do words:remove(1) end -- "Figure", space, "1.", space.
  return kind, number, words
end

local function numbered(class, id, number, blocks)
  return pandoc.Div(blocks, pandoc.Attr(id, { class }, { number = number }))
end

local function with_caption(class, id, number, words, block)
  local caption = pandoc.Div({ pandoc.Plain(words) }, pandoc.Attr("", { "caption" }))
  return numbered(class, id, number, { caption, block })
end

-- Tokens of TeX with the depth of braces, brackets and environments that each stands in.
local function tokens(tex)
  local found, depth, place = pandoc.List(), 0, 1
  local bracketed = false -- Whether the outermost bracket that is open is one of \left.
  while place <= #tex do
    local token = tex:match("^\\%a+", place) or tex:match("^\\.", place) or tex:sub(place, place)
    local closes = token == "}" or token == ")" or token == "]" or token == "\\end" or token == "\\right"
    local opens = token == "{" or token == "(" or token == "[" or token == "\\begin" or token == "\\left"
    if closes then depth = depth - 1 end
    -- The bracket after \left and \right counts with them.
    local bracket = (token == "\\left" or token == "\\right") and tex:match("^%s*\\?[^%s]", place + #token) or ""
    if depth == 0 and opens then bracketed = token == "\\left" end
    found:insert { text = token .. bracket, depth = depth, bracketed = bracketed }
    if opens then depth = depth + 1 end
    place = place + #token + #bracket
  end
  return found
end

local RELATIONS = { ["="] = true, ["\\leftarrow"] = true, ["\\approx"] = true }

-- A line that is aligned at its first relation and goes on in a new line at each sum behind it; with
-- "deep" also at the sums in the outermost brackets.
local function aligned(line, deep)
  local out, related = pandoc.List(), false
  for _, token in ipairs(line) do
    local text, sums = token.text, token.text == "+" or token.text == "-"
    if token.depth == 0 and not related and RELATIONS[text] then
      related = true
      text = "&" .. text
    elseif related and sums and (token.depth == 0 or deep and token.depth == 1 and token.bracketed) then
      text = " \\\\ &\\quad " .. text
    elseif deep and token.depth == 0 then
      text = text:gsub("^\\left(.+)", "\\Bigl%1 "):gsub("^\\right(.+)", "\\Bigr%1 ")
    end
    out:insert(text)
  end
  local whole = table.concat(out)
  if not related then return "&" .. whole end
  if deep or not whole:find("\\\\", 1, true) then whole = "&" .. whole:gsub("&", "\\\\ &\\quad ", 1) end
  return whole
end

-- An equation over several lines, for columns that are too narrow for one.
local function split(tex, deep)
  local lines, line = pandoc.List(), pandoc.List()
  for _, token in ipairs(tokens(tex)) do
    if token.depth == 0 and token.text == "\\qquad" then
      lines:insert(line)
      line = pandoc.List()
    else
      line:insert(token)
    end
  end
  lines:insert(line)
  if #lines > 1 and not deep then
    lines = lines:map(function(one)
      return "&" .. table.concat(one:map(function(token) return token.text end))
    end)
  else
    lines = lines:map(function(one) return aligned(one, deep) end)
  end
  return "\\begin{aligned} " .. table.concat(lines, " \\\\ ") .. " \\end{aligned}"
end

-- A paragraph for each form of an equation: in one line, over several, over still more.
local function equation(block)
  if block.t ~= "Para" or #block.content ~= 1 then return nil end
  local math = block.content[1]
  if math.t ~= "Math" or math.mathtype ~= "DisplayMath" then return nil end
  local number = math.text:match("\\tag{(%d+)}")
  if not number then return nil end
  local tex = math.text:gsub("%s*\\tag{%d+}%s*", ""):gsub("^%s+", "")
  local forms = pandoc.List { tex }
  if not tex:find("\\begin", 1, true) then forms:extend { split(tex, false), split(tex, true) } end
  forms = forms:map(function(form) return pandoc.Para { pandoc.Math("DisplayMath", form) } end)
  return numbered("equation", "eq-" .. number, number, forms)
end

local function is_image(block)
  return block.t == "Para" and #block.content == 1 and block.content[1].t == "Image"
end

-- What may stand above the caption of a figure: its image, or the box that says why there is none.
local function is_shown(block)
  return is_image(block) or block.t == "BlockQuote"
end

local function joined(blocks)
  local out = pandoc.List()
  local place = 1
  while place <= #blocks do
    local block, after = blocks[place], blocks[place + 1]
    local kind, number, words = caption_of(block)
    local next_kind, next_number, next_words = nil, nil, nil
    if after then next_kind, next_number, next_words = caption_of(after) end
    if next_kind == "fig" and is_shown(block) then
      out:insert(with_caption("figure", "fig-" .. next_number, next_number, next_words, block))
      place = place + 2
    elseif kind == "tab" and after and (after.t == "Table" or after.t == "BlockQuote") then
      out:insert(with_caption("table", "tab-" .. number, number, words, after))
      place = place + 2
    else
      local id = anchor_of(block)
      local formula = equation(block)
      if formula then
        out:insert(formula)
      elseif id and #without_anchor(block) > 0 then
        local class = id:match("^ref%-") and "reference" or "anchored"
        out:insert(pandoc.Div({ pandoc.Para(without_anchor(block)) }, pandoc.Attr(id, { class })))
      elseif not id or not (after and equation(after)) then
        out:insert(id and pandoc.Div({}, pandoc.Attr(id)) or block)
      end
      place = place + 1
    end
  end
  return out
end

-- Number in front of a heading ("2.", "2.1", "Appendix A.") as an attribute; the words stay as they are.
local function heading(block)
  local text = stringify(block.content)
  local number = text:match("^(%d+)%. ") or text:match("^(%d[%d.]*%d) ")
  local appendix = text:match("^Appendix (%u)%. ") or text:match("^(%u%.%d+) ")
  block.attributes.number = number or appendix
  if appendix then block.classes:insert("appendix") end
  block.level = math.max(1, block.level - 1)
  return block
end

-- In print a moving picture is the strip of its frames.
local function still(image)
  local strip = image.src:gsub("%.gif$", "_strip.svg")
  if FORMAT == "html" or strip == image.src then return image end
  local file = io.open(strip, "rb")
  if not file then return image end
  file:close()
  image.src = strip
  return image
end

-- Columns. Lengths are counted in characters; "capacity" says how many the text width holds.

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

local function columns(meta)
  local capacity = tonumber(meta.capacity and stringify(meta.capacity)) or 85
  local full = tonumber(meta.fullcapacity and stringify(meta.fullcapacity)) or capacity
  local appendix = false
  return function(block)
    if block.t == "Header" and block.classes:includes("appendix") then appendix = true end
    if block.t ~= "Table" then return nil end
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

-- The title, the subtitle and the abstract become metadata, the rest is the body.
local function parted(doc)
  local body, abstract = pandoc.List(), pandoc.List()
  local place, inside = 1, false
  local blocks = doc.blocks
  if blocks[1] and blocks[1].t == "Header" and blocks[1].level == 1 then
    doc.meta.title = pandoc.MetaInlines(blocks[1].content)
    doc.meta.plaintitle = pandoc.MetaString(stringify(blocks[1].content))
    place = 2
    if blocks[2] and blocks[2].t == "Para" then
      doc.meta.subtitle = pandoc.MetaInlines(blocks[2].content)
      place = 3
    end
  end
  for index = place, #blocks do
    local block = blocks[index]
    if block.t == "Header" then
      inside = stringify(block.content) == "Abstract"
      if not inside then body:insert(heading(block)) end
    else
      (inside and abstract or body):insert(block)
    end
  end
  if #abstract > 0 then doc.meta.abstract = pandoc.MetaBlocks(abstract) end
  doc.blocks = body
  return doc
end

function Pandoc(doc)
  doc.blocks = joined(doc.blocks)
  doc = parted(doc)
  return doc:walk { traverse = "topdown", Block = columns(doc.meta), Image = still }
end
